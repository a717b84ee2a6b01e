"use strict";
// Sorting and filtering of the gallery; without it all pictures are there, newest first.
(() => {
  const list = document.querySelector(".gallery");
  if (!list) return;
  const items = [...list.children];
  const status = document.querySelector("#status");
  const label = document.querySelector("#label");
  const model = document.querySelector("#model");
  const text = document.querySelector("#text");
  const sort = document.querySelector("#sort");
  const shown = document.querySelector("#shown");
  const order = {
    time: (a, b) => b.dataset.time - a.dataset.time,
    doubt: (a, b) => a.dataset.doubt - b.dataset.doubt,
    score: (a, b) => b.dataset.score - a.dataset.score,
    file: (a, b) => (a.dataset.file < b.dataset.file ? -1 : 1),
  };
  const update = () => {
    const wanted = text.value.toLowerCase();
    let count = 0;
    for (const item of items) {
      const fits = (!status.value || item.dataset.status === status.value)
        && (!label.value || item.dataset.label === label.value)
        && (!model.value || item.dataset.model === model.value)
        && item.dataset.file.toLowerCase().includes(wanted);
      item.hidden = !fits;
      count += fits ? 1 : 0;
    }
    items.sort(order[sort.value]).forEach((item) => list.append(item));
    shown.textContent = count + " of " + items.length + " shown";
  };
  for (const control of [status, label, model, text, sort]) control.addEventListener("input", update);
  document.querySelector(".tools").hidden = false;
  update();
})();
