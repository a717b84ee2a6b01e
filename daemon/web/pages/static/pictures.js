"use strict";
// Pictures are drawn by one process, one at a time: one that was not ready in time is asked for again.

const WAITS = [1500, 4000, 9000]; // milliseconds

document.addEventListener("error", (event) => {
  const picture = event.target;
  if (!(picture instanceof HTMLImageElement)) return;
  const tries = Number(picture.dataset.tries ?? 0);
  if (tries >= WAITS.length) return;
  picture.dataset.tries = String(tries + 1);
  setTimeout(() => {
    const { src } = picture;
    picture.src = "";
    picture.src = src;
  }, WAITS[tries]);
}, true);
