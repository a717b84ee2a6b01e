"use strict";
// Keys for lists: / searches, j and k (or the arrows, once within a list) go from row to row, ? explains.

const isTyping = (target) => target.matches("input, select, textarea, [contenteditable]");
const links = () => [...document.querySelectorAll(".rows > * a[href]")].filter(
  (link, place, all) => all.findIndex((other) => other.closest(".rows > *") === link.closest(".rows > *")) === place,
);

const go = (by) => {
  const all = links();
  const now = all.findIndex((link) => link.closest(".rows > *").contains(document.activeElement));
  const next = now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, now + by));
  all[next]?.focus();
  all[next]?.closest(".rows > *").scrollIntoView({ block: "nearest" });
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const inRows = document.activeElement?.closest(".rows");
  const acts = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    j: () => go(1),
    k: () => go(-1),
    ArrowDown: inRows && (() => go(1)),
    ArrowUp: inRows && (() => go(-1)),
    "?": () => document.querySelector("#keys")?.showModal(),
  };
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
