// Which slice is shown: those of one file, or the files of its series, in their order.

export class Slices {
  /** `told` is what /api/view says; `changed` is called with each new place. */
  constructor(told, changed) {
    this.files = told.series?.files ?? [{ id: told.id, file: told.file, slice: told.slice, drawn: true }];
    this.at = told.series?.at ?? 0;
    this.first = told.series?.first ?? 0;
    this.of = told.series?.of ?? 1;
    this.own = told.id; // the file whose page this is
    this.slice = told.slice;
    this.counts = new Map([[told.id, told.slices]]); // file -> its slices, as far as that is known
    this.changed = changed;
  }

  get file() {
    return this.files[this.at];
  }

  /** How many slices the file that is shown has. */
  get count() {
    return this.counts.get(this.file.id) ?? 1;
  }

  /** Whether slices are those of one file; otherwise they are files. */
  get isVolume() {
    return this.count > 1;
  }

  get canStep() {
    return this.isVolume || this.files.length > 1;
  }

  /** The slider's {value, most}, counted from 0. */
  get slider() {
    return this.isVolume
      ? { value: this.slice, most: this.count - 1 }
      : { value: this.at, most: this.files.length - 1 };
  }

  /** Where one is, in words. */
  get words() {
    if (this.isVolume) return `slice ${this.slice + 1} of ${this.count}`;
    return this.files.length > 1 ? `slice ${this.first + this.at + 1} of ${this.of}` : "";
  }

  step(number) {
    const { value, most } = this.slider;
    this.go(Math.max(0, Math.min(most, value + number)));
  }

  go(value) {
    if (value === this.slider.value) return;
    if (this.isVolume) this.slice = value;
    else this.open(value);
    this.changed();
  }

  /** Go to a file of the series by its place in `files`. */
  open(place) {
    this.at = place;
    this.slice = this.file.slice;
  }

  /** Note how many slices a file turned out to have. */
  learn(id, count) {
    this.counts.set(id, count);
  }

  /** Return [file, slice] of those that are likely to be asked for next. */
  ahead() {
    const { value, most } = this.slider;
    const near = [value + 1, value - 1, value + 2].filter((one) => one >= 0 && one <= most);
    return near.map((one) => (this.isVolume ? [this.file, one] : [this.files[one], this.files[one].slice]));
  }
}

/** Mark the file that is shown in the chart of the series' scores, and go to one that is clicked. */
export function strip(chart, slices) {
  const bars = new Map();
  for (const link of chart?.querySelectorAll("a[data-file]") ?? []) {
    bars.set(Number(link.dataset.file), link);
    link.addEventListener("click", (event) => {
      const place = slices.files.findIndex((file) => file.id === Number(link.dataset.file));
      if (place < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      slices.open(place);
      slices.changed();
    });
  }
  return () => {
    for (const [id, link] of bars) link.classList.toggle("is-here", id === slices.file.id);
  };
}
