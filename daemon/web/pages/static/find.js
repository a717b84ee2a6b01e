"use strict";
// Search as one types: the part of the results page that changes is fetched anew, and the address follows, so
// that it can be shared and a reload shows the same. Without this script the form asks for a whole page.

const form = document.querySelector("#find");
const found = document.querySelector("#found");
const told = document.querySelector("#told");
const PAUSE = 200; // milliseconds without a key before it is asked
let asking = new AbortController();
let timer = 0;

/** The words of the form: of fields with the same name the last that says something. */
const words = () => {
  const given = new Map();
  for (const [name, value] of new FormData(form)) if (value.trim()) given.set(name, value.trim());
  return new URLSearchParams([...given]);
};

const ask = async () => {
  asking.abort();
  asking = new AbortController();
  const query = words().toString();
  const rest = query ? `?${query}` : "";
  found.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(found.dataset.address + rest, { signal: asking.signal, credentials: "same-origin" });
    const html = await answer.text();
    if (answer.status === 400) {
      told.textContent = new DOMParser().parseFromString(html, "text/html").querySelector("h1")?.textContent ?? "";
      return;
    }
    if (!answer.ok) throw new Error(answer.statusText);
    const fold = found.querySelector("#fold")?.checked;
    found.innerHTML = html; // escaped by the server; the policy lets no script in
    if (fold) found.querySelector("#fold").checked = true;
    history.replaceState(null, "", `/results${rest}`);
    told.textContent = found.querySelector(".total")?.dataset.told ?? "";
  } catch (error) {
    if (error.name === "AbortError") return; // a newer question is on its way
    told.textContent = "The server does not answer.";
  }
  found.removeAttribute("aria-busy");
};

const soon = () => {
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE);
};

form.addEventListener("input", soon);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  ask();
});
