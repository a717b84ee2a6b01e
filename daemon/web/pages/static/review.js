// The review page: shows what a person should look at, takes answers by key or button, and goes on at once.
import { Outbox, uuid } from "./review_outbox.js";
import { Pictures, prefetch } from "./review_picture.js";

const WHY = {
  uncertain: "Asked because the network is uncertain",
  near: "Asked because the score lies near the threshold",
  random: "Drawn at random: such answers measure the model",
  chosen: "Opened by hand",
};
const AHEAD = 12, MOST_STEPS = 100;
const at = (id) => document.getElementById(id);
const root = at("review");
const key = { name: "bt-reviewer", steps: `bt-review-steps:${location.search}` };

let reviewer = localStorage.getItem(key.name) ?? "";
let current = null;
let ahead = [];
let steps = JSON.parse(sessionStorage.getItem(key.steps) ?? "[]"); // answers of this tab that can be taken back
let blind = false;
let fetching = false;
let ended = false;
let answered = steps.length;
const done = new Set(steps.map((step) => step.candidate.id)); // the server may not know it yet when it is asked
let waits = null;
let chosen = root.dataset.chosen;

const pictures = new Pictures(at("picture"), at("strip"));
const outbox = new Outbox({
  changed: (count, lost) => {
    at("sending").textContent = !count ? "" : lost
      ? `${count} answer${count > 1 ? "s" : ""} kept here: the server does not answer`
      : `${count} on the way`;
    at("sending").classList.toggle("is-lost", lost && count > 0);
  },
  refused: (message, text) => {
    const line = document.createElement("li");
    line.textContent = `${message.name}: not stored. ${text}`;
    at("refused").append(line);
    at("refused").hidden = false;
  },
});

const say = (text) => { at("announce").textContent = text; };
const hidden = () => blind || current?.origin === "random";
const meaning = (candidate, name) => candidate.classes.find((one) => one.name === name)?.meaning ?? name;

const fetchMore = async () => {
  if (fetching || !reviewer || (ended && ahead.length === 0 && current)) return;
  fetching = true;
  try {
    const params = new URLSearchParams(root.dataset.query);
    params.set("reviewer", reviewer);
    params.set("queue", root.dataset.queue);
    if (chosen) params.set("id", chosen);
    params.set("n", String(AHEAD));
    const at_hand = [current, ...ahead].filter(Boolean).map((one) => one.id);
    params.set("without", [...new Set([...at_hand, ...outbox.images()])].slice(0, 100).join(","));
    const answer = await fetch(`/api/review/next?${params}`, { credentials: "same-origin" });
    const told = await answer.json();
    if (!answer.ok) throw new Error([told.error, told.hint].filter(Boolean).join("; "));
    const known = new Set([current, ...ahead].filter(Boolean).map((one) => one.id));
    const fresh = told.candidates.filter((one) => !known.has(one.id) && !done.has(one.id));
    ended = fresh.length === 0 && !chosen;
    chosen = "";
    waits = told.waiting;
    ahead.push(...fresh);
    fresh.forEach((one) => prefetch(one, pictures.heat));
    count();
    at("nothing-told").textContent = "";
    if (!current) advance();
  } catch (error) {
    at("nothing-told").textContent = `What comes next could not be asked for: ${error.message}`;
    if (!current) nothing("The server does not answer");
    setTimeout(() => { if (ahead.length < AHEAD / 2) fetchMore(); }, 2000);
  } finally {
    fetching = false;
  }
};

const count = () => {
  const parts = [`${answered} answered by you here`];
  if (waits) parts.push(`${waits.uncertain.toLocaleString("en")} uncertain wait`, `${waits.reviewed.toLocaleString("en")} answered in all`);
  if (waits?.disputed) parts.push(`${waits.disputed.toLocaleString("en")} disputed`);
  at("counts").textContent = parts.join(" · ");
};

const nothing = (title) => {
  at("card").hidden = true;
  at("nothing").hidden = false;
  at("nothing-title").textContent = title;
  at("nothing-title").focus();
};

const advance = () => {
  current = ahead.shift() ?? null;
  if (current) show();
  else if (ended) { nothing("Nothing waits here"); say("Nothing waits here"); }
  else at("card").hidden = true; // what comes next is on its way
  if (ahead.length < AHEAD / 2 && !ended) fetchMore();
};

const show = () => {
  at("nothing").hidden = true;
  at("card").hidden = false;
  at("note").value = "";
  noteLine();
  closeNote();
  const link = document.createElement("a");
  link.href = current.page;
  link.textContent = current.name;
  at("image-name").replaceChildren(link);
  at("why").textContent = `${WHY[current.origin]} · ${current.model_name}`;
  pictures.show(current);
  look();
  at("classes").replaceChildren(...current.classes.slice(0, 9).map((one, place) => {
    const button = document.createElement("button");
    button.type = "button";
    const digit = document.createElement("kbd");
    digit.textContent = String(place + 1);
    button.append(digit, ` ${one.meaning}`);
    button.addEventListener("click", () => give("class", one.name));
    return button;
  }));
  say(`${current.name}. ${hidden() ? "" : current.said.words}`);
};

const look = () => {
  const told = current.said;
  at("said").textContent = hidden() ? "What the network said is hidden until you answer" : `The network: ${told.words}`;
  at("reason").textContent = hidden() ? "" : told.reason ?? "";
  root.querySelector("[data-act=agree]").disabled = hidden();
  root.querySelector("[data-act=undo]").disabled = steps.length === 0;
  const blinded = root.querySelector("[data-act=blind]");
  blinded.setAttribute("aria-pressed", String(hidden()));
  blinded.disabled = current.origin === "random";
  const heat = root.querySelector("[data-act=heat]");
  heat.setAttribute("aria-pressed", String(pictures.heat));
  heat.disabled = !current.heatmap;
  at("heat-told").hidden = !(pictures.heat && current.heatmap);
  at("heat-told").textContent = `In warm colours what spoke for ${current.heatmap_of}: an explanation of the network, not the place of a finding`;
};

const give = (answer, name = null) => {
  if (!current) return;
  const request = uuid();
  const body = { request, id: current.id, model: current.model, answer, origin: current.origin, reviewer, note: at("note").value };
  if (answer === "class") body.class = name;
  outbox.put("/api/review", body, current.name);
  steps.push({ request, candidate: current, name: current.name });
  steps = steps.slice(-MOST_STEPS);
  keepSteps();
  answered += 1;
  done.add(current.id);
  const words = { "other-kind": "not this kind", skip: "skipped" }[answer] ?? meaning(current, name);
  at("last").textContent = `Last: ${current.name}: ${words}; the network had said ${current.said.words}`;
  count();
  advance();
};

const agree = () => {
  if (!current || hidden()) return;
  if (current.said.class === null) give("other-kind");
  else give("class", current.said.class);
};

const undo = () => {
  const step = steps.pop();
  if (!step) { say("There is nothing to take back"); return; }
  keepSteps();
  answered -= 1;
  done.delete(step.candidate.id);
  outbox.put("/api/review/undo", { request: step.request, reviewer }, step.name);
  if (current) ahead.unshift(current);
  current = step.candidate;
  ended = false;
  at("last").textContent = `Taken back: ${step.name}`;
  count();
  show();
  say(`Taken back: ${step.name}`);
};

const keepSteps = () => sessionStorage.setItem(key.steps, JSON.stringify(steps));

const openNote = () => { at("note-box").hidden = false; at("note").focus(); };
const closeNote = () => { at("note-box").hidden = true; };
const noteLine = () => {
  at("note-line").hidden = !at("note").value;
  at("note-line").textContent = at("note").value ? `Note: ${at("note").value.slice(0, 200)}` : "";
};

const acts = {
  agree, undo,
  kind: () => give("other-kind"),
  skip: () => give("skip"),
  heat: () => { if (current?.heatmap) { pictures.toggleHeat(); look(); } },
  blind: () => { blind = !blind; if (current) look(); },
  note: () => { if (current) openNote(); },
  help: () => at("review-keys").showModal(),
};
const keys = { a: "agree", Enter: "agree", x: "kind", s: "skip", u: "undo", h: "heat", b: "blind", n: "note", "?": "help" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || at("review-keys").open) return;
  if (event.target.matches("input, textarea, select")) return;
  if (event.key === "Enter" && event.target.matches("a, button")) return; // it presses what has the focus
  const digit = current && /^[1-9]$/.test(event.key) ? current.classes[Number(event.key) - 1] : null;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const act = acts[keys[event.key.length === 1 ? event.key.toLowerCase() : event.key]];
  if (!digit && !act && !(step && current)) return;
  event.preventDefault();
  if (digit) give("class", digit.name);
  else if (act) act();
  else pictures.step(step);
});
root.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", () => {
  acts[button.dataset.act]();
  if (button.dataset.act !== "note" && button.dataset.act !== "help") button.blur(); // so that Enter means agree again
}));
at("note").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" && !(event.key === "Enter" && event.ctrlKey)) return;
  event.preventDefault();
  noteLine();
  closeNote();
  at("image-name").focus();
});
at("note").addEventListener("input", noteLine);

const begin = () => {
  at("name-form").hidden = true;
  const change = document.createElement("button");
  change.type = "button";
  change.textContent = "change";
  change.addEventListener("click", () => { at("name").value = reviewer; at("name-form").hidden = false; at("name").focus(); });
  at("who").replaceChildren(`You are ${reviewer} `, change);
  outbox.send();
  fetchMore();
};
at("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  if (!name) return;
  const is_other = reviewer && reviewer !== name;
  reviewer = name;
  localStorage.setItem(key.name, name);
  if (is_other) { steps = []; keepSteps(); } // nobody takes another's answers back
  begin();
});

if (reviewer) begin();
else { at("name-form").hidden = false; at("name").focus(); }
