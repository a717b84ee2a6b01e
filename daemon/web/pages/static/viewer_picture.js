// Pictures of the viewer: fetched as numbers, shown through a window, with a heatmap as a layer above.

const MOST_KEPT = 96 << 20; // bytes of pictures kept by the page
const FACTS = "x-picture";
const TRIES = 4; // while other pictures are being drawn (503)
const SMOOTH_BELOW = 4; // screen pixels a picture's pixel; larger ones are shown as the squares they are

/** Why there is no picture, in words for people. */
export class NoPicture extends Error {}

/** Pictures and maps by address; the oldest go when there are too many. */
export class Store {
  #kept = new Map();
  #bytes = 0;

  /** Return {facts, data} of an address; throw NoPicture with the server's reason. */
  get(address) {
    const found = this.#kept.get(address);
    if (found) {
      this.#kept.delete(address);
      this.#kept.set(address, found);
      return found.promise;
    }
    const entry = { promise: fetched(address), bytes: 0 };
    this.#kept.set(address, entry);
    entry.promise.then(
      (picture) => this.#count(address, entry, picture.data.byteLength),
      () => this.#kept.delete(address),
    );
    return entry.promise;
  }

  #count(address, entry, bytes) {
    entry.bytes = bytes;
    this.#bytes += bytes;
    for (const [oldest, one] of this.#kept) {
      if (this.#bytes <= MOST_KEPT || oldest === address) break;
      this.#bytes -= one.bytes;
      this.#kept.delete(oldest);
    }
  }
}

async function fetched(address) {
  for (let attempt = 1; ; attempt += 1) {
    let answer;
    try {
      answer = await fetch(address, { credentials: "same-origin" });
    } catch {
      throw new NoPicture("the server does not answer");
    }
    if (answer.status === 503 && attempt < TRIES) {
      await new Promise((go) => setTimeout(go, 500 * attempt));
      continue;
    }
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw new NoPicture(told.error ?? answer.statusText);
    }
    const facts = JSON.parse(answer.headers.get(FACTS));
    const bytes = await answer.arrayBuffer();
    // Little-endian, as is every machine with a browser.
    return { facts, data: facts.bits === 16 ? new Uint16Array(bytes) : new Uint8Array(bytes) };
  }
}

/** Return what a picture's number at a pixel means; of colours their luma. */
export function valueAt({ facts, data }, x, y) {
  const place = y * facts.width + x;
  if (facts.bits === 24) {
    const [red, green, blue] = data.subarray(3 * place, 3 * place + 3);
    return Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
  }
  return facts.intercept + facts.slope * data[place];
}

/** Return the window that a picture comes with: as the network saw it. */
export function ownWindow({ facts }) {
  return { low: facts.low, high: Math.max(facts.high, facts.low + facts.slope) };
}

/** Paint a picture's numbers through a window onto a canvas of its size. */
export function paint(canvas, { facts, data }, { low, high }, inverted) {
  canvas.width = facts.width;
  canvas.height = facts.height;
  const table = new Uint32Array(facts.bits === 16 ? 65536 : 256);
  const step = (255 * facts.slope) / (high - low);
  const start = (255 * (facts.intercept - low)) / (high - low);
  const turned = facts.inverted !== inverted;
  for (let code = 0; code < table.length; code += 1) {
    const grey = Math.max(0, Math.min(255, Math.round(start + step * code)));
    const shade = turned ? 255 - grey : grey;
    table[code] = (255 << 24) | (shade << 16) | (shade << 8) | shade;
  }
  const image = new ImageData(facts.width, facts.height);
  const pixels = new Uint32Array(image.data.buffer);
  if (facts.bits === 24) {
    // Alpha stays as it is; a shade is in each byte of its entry.
    for (let place = 0; place < pixels.length; place += 1) {
      const from = 3 * place;
      pixels[place] =
        (255 << 24) |
        (table[data[from + 2]] & 0xff0000) |
        (table[data[from + 1]] & 0xff00) |
        (table[data[from]] & 0xff);
    }
  } else {
    for (let place = 0; place < pixels.length; place += 1) pixels[place] = table[data[place]];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Paint a map of 0..255: yellow to red, and the stronger the less transparent. */
export function paintHeat(canvas, { facts, data }) {
  canvas.width = facts.width;
  canvas.height = facts.height;
  const image = new ImageData(facts.width, facts.height);
  for (let place = 0; place < data.length; place += 1) {
    const strength = data[place];
    image.data.set([255, 250 - (220 * strength) / 255, 0, strength], 4 * place);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Return where a picture lies on a canvas: {left, upper, width, height} in the canvas' own pixels. */
export function placed(canvas, facts, view) {
  const height = facts.height * facts.ratio;
  const fit = Math.min(canvas.width / facts.width, canvas.height / height);
  const scale = fit * view.zoom;
  return {
    left: canvas.width / 2 - view.x * facts.width * scale,
    upper: canvas.height / 2 - view.y * height * scale,
    width: facts.width * scale,
    height: height * scale,
  };
}

/** Draw a painted picture, and a painted map of it (or null) with an opacity of 0 to 1. */
export function draw(canvas, view, picture, base, heat, opacity) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const at = placed(canvas, picture.facts, view);
  pen.imageSmoothingEnabled = at.width / picture.facts.width < SMOOTH_BELOW;
  pen.imageSmoothingQuality = "high";
  pen.globalAlpha = 1;
  pen.drawImage(base, at.left, at.upper, at.width, at.height);
  if (!heat || opacity === 0) return;
  const [left, upper, right, lower] = heat.square;
  pen.imageSmoothingEnabled = true;
  pen.globalAlpha = opacity;
  pen.save();
  pen.beginPath();
  pen.rect(at.left, at.upper, at.width, at.height); // the network's square is often larger than the picture
  pen.clip();
  pen.drawImage(
    heat.canvas,
    at.left + left * at.width,
    at.upper + upper * at.height,
    (right - left) * at.width,
    (lower - upper) * at.height,
  );
  pen.restore();
  pen.globalAlpha = 1;
}
