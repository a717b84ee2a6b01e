// The picture of the image that is looked at, its heatmap, and the slices next to it in its series.

const made = new Map(); // address -> img; no answer may be stored, so elements that are loaded are kept
const MOST = 48;
const TRIES = 6, WAIT = 800; // milliseconds; a server that draws for others says: later

const load = (img, address, tries) => {
  img.addEventListener("error", () => {
    if (tries > 1 && made.get(address) === img) setTimeout(() => load(img, address, tries - 1), WAIT);
  }, { once: true });
  img.src = address;
};

const picture = (address) => {
  let img = made.get(address);
  if (!img) {
    img = new Image();
    made.set(address, img);
    load(img, address, TRIES);
    if (made.size > MOST) made.delete(made.keys().next().value);
  }
  return img;
};

/** Begin to load what will be looked at. */
export const prefetch = (candidate, heat) => {
  picture(candidate.plain);
  if (heat && candidate.heatmap) picture(candidate.heatmap);
};

export class Pictures {
  #candidate = null;
  #slice = 0; // away from the image itself
  heat = false;

  constructor(place, strip) {
    this.place = place;
    this.strip = strip;
  }

  show(candidate) {
    this.#candidate = candidate;
    this.#slice = 0;
    this.#draw();
  }

  toggleHeat() {
    this.heat = !this.heat;
    this.#draw();
  }

  /** Look at a slice before or behind; the answer is still about the image itself. */
  step(by) {
    const slices = this.#candidate?.series?.slices ?? [];
    const own = slices.findIndex((one) => one.id === this.#candidate.id);
    if (own < 0) return;
    this.#slice = Math.min(slices.length - 1 - own, Math.max(-own, this.#slice + by));
    this.#draw();
  }

  #draw() {
    const one = this.#candidate;
    const slices = one.series?.slices ?? [];
    const own = slices.findIndex((each) => each.id === one.id);
    const looked = this.#slice ? slices[own + this.#slice] : one;
    const address = this.heat && !this.#slice && one.heatmap ? one.heatmap : looked.plain;
    const img = picture(address);
    img.alt = this.#slice ? `Slice ${one.series.place + this.#slice} of ${one.series.count} of its series` : `The image ${one.name}`;
    const caption = document.createElement("p");
    caption.className = "review-caption";
    if (this.#slice) caption.textContent = `Slice ${one.series.place + this.#slice} of ${one.series.count}, not the one that is asked about`;
    this.place.replaceChildren(img, caption);
    this.place.classList.toggle("is-neighbour", this.#slice !== 0);
    this.#drawStrip(slices, own);
  }

  #drawStrip(slices, own) {
    this.strip.hidden = slices.length < 2;
    this.strip.replaceChildren(...slices.map((each, place) => {
      const button = document.createElement("button");
      button.type = "button";
      const number = this.#candidate.series.place + place - own;
      button.setAttribute("aria-label", place === own ? `Slice ${number}, the one that is asked about` : `Slice ${number}`);
      button.setAttribute("aria-pressed", String(place - own === this.#slice));
      button.classList.toggle("is-own", place === own);
      const img = picture(each.small);
      img.alt = "";
      button.append(img);
      button.addEventListener("click", () => { this.#slice = place - own; this.#draw(); });
      return button;
    }));
  }
}
