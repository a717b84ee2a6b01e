// Uploads: files dropped on the page, or chosen, go one after the other into an inbox; then their result is awaited.

const box = document.querySelector("#upload");
const list = box.querySelector("ul");
const choice = box.querySelector("select");
const told = box.querySelector("[role=status]");
const waiting = [];
const FIRST_LOOK = 1000, LONGEST_WAIT = 5000, PATIENCE = 120000; // milliseconds
let mostBytes = Infinity;
let sending = false;

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const pause = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));

const ask = async (address) => {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
};

/** A line of the list for a file, whose words and link can be changed. */
const lineOf = (name) => {
  const line = document.createElement("li");
  const title = document.createElement("span"), bar = document.createElement("progress"), words = document.createElement("span");
  title.textContent = name;
  title.className = "name";
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Sending ${name}`);
  line.append(title, " ", bar, " ", words);
  list.prepend(line);
  return {
    progress: (share) => { bar.value = share; },
    say: (text, address) => {
      bar.remove();
      words.textContent = text;
      if (!address) return;
      const link = document.createElement("a");
      link.href = address;
      link.textContent = text;
      words.replaceChildren(link);
    },
    fail: (text) => { bar.remove(); words.textContent = text; words.className = "failed"; told.textContent = `${name}: ${text}`; },
  };
};

/** Send one file; fetch tells no progress of a body, so this is the older way. */
const send = (file, inbox, line) => new Promise((done, failed) => {
  const request = new XMLHttpRequest();
  request.open("POST", `/api/upload?${new URLSearchParams({ inbox, name: file.name })}`);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.onprogress = (event) => line.progress(event.loaded / Math.max(1, event.total));
  request.onerror = () => failed(new Error("the server does not answer; send it again"));
  request.onload = () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { answer = { error: request.responseText }; }
    if (request.status === 200) done(answer);
    else failed(new Error([answer.error, answer.hint].filter(Boolean).join("; ")));
  };
  request.send(file);
});

/** Wait until the daemon has judged a file, and link to it. */
const follow = async (inbox, landed, line) => {
  const address = `/api/upload/state?${new URLSearchParams({ inbox, name: landed.name, mtime: landed.mtime })}`;
  const until = Date.now() + PATIENCE;
  for (let wait = FIRST_LOOK; Date.now() < until; wait = Math.min(LONGEST_WAIT, wait * 1.5)) {
    await pause(wait);
    const found = await ask(address).catch(() => ({ state: "waiting" }));
    if (found.state === "judged") return line.say("see its result", found.page);
    if (found.state === "failed") return line.say("could not be judged: see why", found.page);
  }
  line.say("it waits for the daemon, which judges it when it can");
};

const next = async () => {
  if (sending || !waiting.length) return;
  sending = true;
  const { file, inbox, line } = waiting.shift();
  try {
    const landed = await send(file, inbox, line);
    const name = landed.name === file.name ? "" : ` as ${landed.name}`;
    line.say(`${landed.new ? "in the inbox" : "was in the inbox already"}${name}, waits to be judged`);
    told.textContent = `${file.name} is in the inbox${name}`;
    follow(inbox, landed, line);
  } catch (error) {
    line.fail(error.message);
  }
  sending = false;
  next();
};

const add = (files) => {
  for (const file of files) {
    const line = lineOf(file.name);
    if (!choice.value) line.fail("there is no inbox to write to: start bt-daemon watch DIR");
    else if (file.size > mostBytes) line.fail(`larger than the ${megabytes(mostBytes)} that are read`);
    else waiting.push({ file, inbox: choice.value, line });
  }
  next();
};

/** The files of a drop; folders are told, not taken: what they hold has no place in the inbox's root. */
const dropped = (transfer) => [...transfer.items].filter((item) => item.kind === "file").map((item) => {
  const file = item.getAsFile();
  if (file && item.webkitGetAsEntry?.()?.isDirectory) {
    lineOf(file.name).fail("is a folder; drop the files in it");
    return null;
  }
  return file;
}).filter(Boolean);

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
let depth = 0; // of elements that the mouse has entered and not left
const light = (by) => { depth = Math.max(0, depth + by); box.classList.toggle("is-over", depth > 0); };
addEventListener("dragenter", (event) => { if (holdsFiles(event)) light(1); });
addEventListener("dragleave", (event) => { if (holdsFiles(event)) light(-1); });
addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  light(-depth);
  add(dropped(event.dataTransfer));
});
box.querySelector("input").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });

try {
  const found = await ask("/api/upload/inboxes");
  mostBytes = found.most_bytes;
  choice.replaceChildren(...found.inboxes.map(({ id, name }) => new Option(name, id)));
  choice.closest("label").hidden = found.inboxes.length < 2;
  if (!found.inboxes.length) told.textContent = "No inbox can be written here: start bt-daemon watch DIR.";
} catch {
  told.textContent = "The inboxes could not be asked for: reload the page.";
}
