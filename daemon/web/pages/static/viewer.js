// The viewer of a slice: window and level, zoom, slices, heatmaps as a layer, models beside each other.
// Without it the page shows the pictures as the server drew them.

import { NoPicture, Store, draw, ownWindow, paint, paintHeat, placed, valueAt } from "./viewer_picture.js";
import { gestures, shortcuts } from "./viewer_gestures.js";
import { Slices, strip } from "./viewer_slices.js";

const MOST_ZOOM = 32;
const STILL = 120; // milliseconds that a slice is looked at before its heatmap is asked for
const SLOW = 250; // before it is said that a picture is being loaded

const root = document.querySelector("#viewer");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const store = new Store();

class Viewer {
  constructor(told) {
    this.told = told;
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.chosen = null; // the window that somebody set; null: each slice's own
    this.inverted = false;
    this.opacity = Number(part("opacity").value) / 100;
    this.picture = null;
    this.base = document.createElement("canvas");
    this.painted = ""; // what the base shows, so that zooming paints nothing anew
    this.turn = 0; // grows with every slice, so that a late answer is not shown
    this.slices = new Slices(told, () => this.load());
    this.mark = strip(document.querySelector("svg.of-slices"), this.slices);
    this.panels = told.models.map((model) => this.#panel(model));
    part("panels").dataset.count = this.panels.length;
  }

  #panel(model) {
    const figure = part("panel").content.cloneNode(true).firstElementChild;
    const canvas = figure.querySelector("canvas");
    const panel = {
      model, canvas, figure,
      heat: null, // {canvas, square, score} of the slice that is shown
      name: figure.querySelector("[data-part=model]"),
      said: figure.querySelector("[data-part=said]"),
      note: figure.querySelector("[data-part=note]"),
    };
    panel.name.textContent = this.told.models.length > 1 ? model.name : "";
    const act = {
      window: (dx, dy) => this.setWindow(dx / canvas.clientWidth, dy / canvas.clientHeight),
      pan: (dx, dy) => this.pan(canvas, dx, dy),
      zoom: (factor, x, y) => this.zoom(factor, canvas, x, y),
      step: (number) => this.slices.step(number),
      fit: () => this.fit(),
      point: (x, y) => this.point(canvas, x, y),
      leave: () => { part("value").textContent = ""; },
    };
    gestures(canvas, act, () => this.slices.canStep);
    new ResizeObserver(() => this.#resize(canvas)).observe(canvas);
    part("panels").append(figure);
    return panel;
  }

  #resize(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (canvas.width === width && canvas.height === height) return;
    canvas.width = width;
    canvas.height = height;
    this.#draw(); // at once: a canvas of another size is empty, and the next thing is that it is painted
  }

  /** Show the slice that is to be shown, and fetch its neighbours. */
  async load() {
    const turn = (this.turn += 1);
    const { file, slice } = this.slices;
    this.#tell();
    const slow = setTimeout(() => part("message").textContent = "Loading", SLOW);
    try {
      const picture = await store.get(this.#address("pixels", file, slice, this.told.models[0]));
      if (turn !== this.turn) return;
      this.picture = picture;
      this.slices.learn(file.id, picture.facts.slices);
      part("message").textContent = "";
      root.dataset.shown = `${file.id}/${slice}`;
    } catch (error) {
      if (!(error instanceof NoPicture)) throw error;
      if (turn !== this.turn) return;
      this.picture = null;
      part("message").textContent = `No picture: ${error.message}`;
    } finally {
      clearTimeout(slow);
    }
    for (const panel of this.panels) {
      panel.heat = null;
      panel.canvas.hidden = !this.picture;
    }
    this.painted = "";
    this.#tell();
    this.redraw();
    if (!this.picture) return;
    for (const [next, number] of this.slices.ahead()) {
      if (next.drawn) store.get(this.#address("pixels", next, number, this.told.models[0])).catch(() => {});
    }
    setTimeout(() => this.heat(turn), STILL);
  }

  /** Fetch the heatmaps of the slice that is shown, if they are to be seen and it still is. */
  async heat(turn = this.turn) {
    if (turn !== this.turn || this.opacity === 0 || !this.picture) return;
    const { file, slice } = this.slices;
    for (const panel of this.panels) {
      if (panel.heat || !panel.model.shown) continue;
      try {
        const found = await store.get(this.#address("heat", file, slice, panel.model));
        if (turn !== this.turn) return;
        const canvas = document.createElement("canvas");
        paintHeat(canvas, found);
        panel.heat = { canvas, square: found.facts.square, score: found.facts.score };
        panel.note.textContent = "";
      } catch (error) {
        if (!(error instanceof NoPicture)) throw error;
        if (turn !== this.turn) return;
        panel.note.textContent = `No heatmap: ${error.message}`;
      }
      this.#tell();
      this.redraw();
    }
    root.dataset.heat = `${file.id}/${slice}`;
  }

  #address(kind, file, slice, model) {
    return `/api/${kind}/${file.id}?slice=${slice}&model=${model.model}`;
  }

  get window() {
    return this.chosen ?? (this.picture ? ownWindow(this.picture) : null);
  }

  /** Change the window by shares of the canvas: right is wider, up is brighter. */
  setWindow(dx, dy) {
    if (!this.picture) return;
    const { low, high } = this.window;
    const own = ownWindow(this.picture);
    const least = Math.max((own.high - own.low) / 500, this.picture.facts.slope / 2);
    const width = Math.max(least, (high - low) * Math.exp(2 * dx));
    const level = (low + high) / 2 + dy * Math.max(width, own.high - own.low);
    this.chosen = { low: level - width / 2, high: level + width / 2 };
    this.redraw();
  }

  /** Zoom by a factor about a place of a canvas, its middle unless said. */
  zoom(factor, canvas = this.panels[0].canvas, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    if (!this.picture) return;
    const [from] = this.#under(canvas, x, y);
    this.view.zoom = Math.max(1, Math.min(MOST_ZOOM, this.view.zoom * factor));
    const [to] = this.#under(canvas, x, y);
    this.view.x += from.x - to.x;
    this.view.y += from.y - to.y;
    this.#keepInside();
    this.redraw();
  }

  pan(canvas, dx, dy) {
    if (!this.picture) return;
    const at = placed(canvas, this.picture.facts, this.view);
    const ratio = canvas.width / canvas.clientWidth;
    this.view.x -= (dx * ratio) / at.width;
    this.view.y -= (dy * ratio) / at.height;
    this.#keepInside();
    this.redraw();
  }

  #keepInside() {
    const half = this.view.zoom === 1 ? 0 : 0.5; // at its smallest it lies in the middle
    for (const axis of ["x", "y"]) this.view[axis] = Math.max(0.5 - half, Math.min(0.5 + half, this.view[axis]));
  }

  fit() {
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.redraw();
  }

  reset() {
    this.chosen = null;
    this.inverted = false;
    this.fit();
  }

  invert() {
    this.inverted = !this.inverted;
    this.redraw();
  }

  setOpacity(percent) {
    this.opacity = Math.max(0, Math.min(100, percent)) / 100;
    part("opacity").value = String(Math.round(100 * this.opacity));
    this.redraw();
    this.heat();
  }

  /** Say which number lies under a place of a canvas. */
  point(canvas, x, y) {
    if (!this.picture) return;
    const { facts } = this.picture;
    const [share] = this.#under(canvas, x, y);
    const [column, row] = [Math.floor(share.x * facts.width), Math.floor(share.y * facts.height)];
    const isInside = column >= 0 && row >= 0 && column < facts.width && row < facts.height;
    part("value").textContent = isInside
      ? `x ${column * facts.reduced}, y ${row * facts.reduced}: ${number(valueAt(this.picture, column, row))}`
      : "";
  }

  #under(canvas, x, y) {
    const at = placed(canvas, this.picture.facts, this.view);
    const ratio = canvas.width / canvas.clientWidth;
    return [{ x: (x * ratio - at.left) / at.width, y: (y * ratio - at.upper) / at.height }];
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#draw();
    });
  }

  #draw() {
    if (!this.picture) return;
    const window = this.window;
    const wanted = `${this.turn} ${window.low} ${window.high} ${this.inverted}`;
    if (wanted !== this.painted) paint(this.base, this.picture, window, this.inverted);
    this.painted = wanted;
    for (const { canvas, heat } of this.panels) draw(canvas, this.view, this.picture, this.base, heat, this.opacity);
    part("window").textContent = `Window ${number(window.low)} to ${number(window.high)}`
      + (this.chosen ? "" : " (as the network saw it)");
    part("zoom").textContent = this.view.zoom > 1 ? `zoom ${this.view.zoom.toFixed(1)}` : "";
    part("invert").setAttribute("aria-pressed", String(this.inverted));
    Object.assign(root.dataset, { low: window.low, high: window.high, zoom: this.view.zoom });
  }

  /** Put into words which slice it is and what was said of it. */
  #tell() {
    const { file, slices } = { file: this.slices.file, slices: this.slices };
    const { value, most } = slices.slider;
    const slider = part("slice");
    slider.max = String(most);
    slider.value = String(value);
    slider.setAttribute("aria-valuetext", slices.words);
    part("slices").hidden = !slices.canStep;
    part("place").textContent = slices.words;
    const isOwn = file.id === slices.own;
    const link = part("other");
    link.hidden = isOwn;
    link.href = `/image/${file.id}`;
    link.textContent = isOwn ? "" : `Open ${file.file.split("/").pop()}`;
    this.panels.forEach((panel, index) => {
      // The answers to other files of the series are known of the first model only.
      const said = isOwn ? panel.model : index === 0 ? file : null;
      panel.said.textContent = said ? said.said : "";
      panel.said.className = said ? `tag ${said.shade}` : "";
      panel.said.hidden = !said?.said;
      panel.canvas.setAttribute("aria-label", ["Slice", slices.words, said?.said].filter(Boolean).join(", "));
      const isJudged = slices.slice === file.slice && slices.count <= 1;
      if (panel.heat && !isJudged) panel.note.textContent = `this slice alone: score ${panel.heat.score.toFixed(3)}`;
    });
    this.mark();
  }
}

function number(value) {
  return Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(4)).toString();
}

function wire(viewer) {
  const help = part("help");
  const buttons = {
    fit: () => viewer.fit(), in: () => viewer.zoom(1.25), out: () => viewer.zoom(0.8),
    invert: () => viewer.invert(), reset: () => viewer.reset(), ask: () => help.showModal(),
  };
  for (const button of root.querySelectorAll("button[data-do]")) {
    button.addEventListener("click", () => buttons[button.dataset.do]());
  }
  part("opacity").addEventListener("input", (event) => viewer.setOpacity(Number(event.target.value)));
  part("slice").addEventListener("input", (event) => viewer.slices.go(Number(event.target.value)));
  let before = Math.round(100 * viewer.opacity) || 60;
  const toggle = () => {
    const now = Math.round(100 * viewer.opacity);
    if (now) before = now;
    viewer.setOpacity(now ? 0 : before);
  };
  const follow = (rel) => () => document.querySelector(`a[rel=${rel}].of-list`)?.click();
  const canvasOnly = (action) => (event) => (event.target.matches("canvas") ? action() : false);
  const steps = (by) => () => (viewer.slices.canStep ? viewer.slices.step(by) : false);
  const pan = (dx, dy) => () => viewer.pan(viewer.panels[0].canvas, dx, dy);
  shortcuts({
    ArrowLeft: steps(-1), ArrowRight: steps(1), ArrowUp: canvasOnly(steps(-1)), ArrowDown: canvasOnly(steps(1)),
    PageUp: canvasOnly(steps(-5)), PageDown: canvasOnly(steps(5)),
    "Shift+ArrowLeft": pan(40, 0), "Shift+ArrowRight": pan(-40, 0),
    "Shift+ArrowUp": pan(0, 40), "Shift+ArrowDown": pan(0, -40),
    "+": buttons.in, "=": buttons.in, "-": buttons.out, "0": buttons.fit,
    i: buttons.invert, r: buttons.reset, h: toggle, "?": buttons.ask,
    b: () => viewer.setWindow(0, -0.05), d: () => viewer.setWindow(0, 0.05),
    c: () => viewer.setWindow(-0.1, 0), v: () => viewer.setWindow(0.1, 0),
    n: follow("next"), j: follow("next"), p: follow("prev"), k: follow("prev"),
  });
}

async function start() {
  const answer = await fetch(root.dataset.view, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(answer.statusText);
  const viewer = new Viewer(await answer.json());
  root.hidden = false;
  wire(viewer);
  await viewer.load();
}

if (root) {
  start().catch(() => {
    root.hidden = false;
    part("message").textContent = "No picture: the server does not answer; load the page again";
  });
}
