// What hands do to a picture: drag, pinch, wheel and keys, told as what is meant.

const WHEEL_STEP = 40; // pixels of a wheel's turn that are one slice; a notch is 100 or more

/**
 * Tell `act` what is done to a canvas: window(dx, dy), pan(dx, dy), zoom(factor, x, y), step(slices), fit(),
 * point(x, y) and leave(); distances and places in CSS pixels of the canvas. `canStep` says whether a wheel
 * turns slices; where not, it scrolls the page.
 */
export function gestures(canvas, act, canStep) {
  const fingers = new Map(); // pointer id -> its last place
  let wheel = 0;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const middle = () => {
    const all = [...fingers.values()];
    const sum = all.reduce((one, other) => ({ x: one.x + other.x, y: one.y + other.y }));
    return { x: sum.x / all.length, y: sum.y / all.length };
  };
  const spread = () => {
    const [one, other] = fingers.values();
    return Math.hypot(one.x - other.x, one.y - other.y);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    canvas.focus({ preventScroll: true });
    if (event.button === 1) event.preventDefault(); // no automatic scrolling
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    act.point(now.x, now.y);
    const before = fingers.get(event.pointerId);
    if (!before) return;
    if (fingers.size === 1) {
      fingers.set(event.pointerId, now);
      const [dx, dy] = [now.x - before.x, now.y - before.y];
      if (event.shiftKey || event.buttons & 6) act.pan(dx, dy);
      else act.window(dx, dy);
    } else if (fingers.size === 2) {
      const [from, apart] = [middle(), spread()];
      fingers.set(event.pointerId, now);
      const to = middle();
      if (apart > 0) act.zoom(spread() / apart, to.x, to.y);
      act.pan(to.x - from.x, to.y - from.y);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => act.leave());
  canvas.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button pans
  canvas.addEventListener("dblclick", () => act.fit());
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        const { x, y } = place(event);
        act.zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) / 300), x, y);
      } else if (canStep()) {
        event.preventDefault();
        wheel += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP;
        const slices = Math.trunc(wheel / WHEEL_STEP);
        if (slices !== 0) {
          wheel = 0;
          act.step(Math.sign(slices));
        }
      }
    },
    { passive: false },
  );
}

/** Call the entry of a key in `keys`, unless somebody types or means the browser. */
export function shortcuts(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input:not([type=range]), select, textarea, dialog")) return;
    const isSlider = event.target.matches("input[type=range]");
    if (isSlider && (event.key.startsWith("Arrow") || event.key.startsWith("Page"))) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = keys[event.shiftKey && name.startsWith("Arrow") ? `Shift+${name}` : name];
    if (action && action(event) !== false) event.preventDefault();
  });
}
