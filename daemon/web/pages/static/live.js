"use strict";
// Renews the live part of the overview while the page is looked at; without it the page is as it was loaded.
(() => {
  const live = document.querySelector("#live");
  const renewed = document.querySelector("#renewed");
  const every = 2000; // milliseconds
  let before = "";
  const renew = async () => {
    if (!document.hidden && !live.contains(document.activeElement)) {
      try {
        const answer = await fetch(live.dataset.address, { credentials: "same-origin" });
        if (!answer.ok) throw new Error(answer.statusText);
        const html = await answer.text();
        if (html !== before) live.innerHTML = before = html; // escaped by the server; the policy lets no script in
        renewed.textContent = "live";
      } catch {
        renewed.textContent = "not live: the server does not answer";
      }
    }
    setTimeout(renew, every);
  };
  document.querySelector("#since").addEventListener("change", (event) => event.target.form.submit());
  setTimeout(renew, every);
})();
