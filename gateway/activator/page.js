
"use strict";
const state = document.getElementById("state");
const say = {
  queued: "It waits for room to start. This page loads again by itself.",
  starting: "Nobody had called for a while. This page loads again by itself, in a moment.",
  failed: "It could not be started. This page tries again by itself, in a while.",
};
async function look() {
  let wait = 2000;
  try {
    const answer = await fetch(document.body.dataset.link, { cache: "no-store" });
    const told = (await answer.json()).state;
    if (told === "ready" || told === "asleep") { location.reload(); return; }
    document.body.dataset.state = told;
    if (say[told] && say[told] !== state.textContent) state.textContent = say[told];
    if (told === "starting") wait = 300;
    if (told === "failed") {
      setTimeout(() => location.reload(), 1000 * (Number(answer.headers.get("retry-after")) || 5));
      return;
    }
  } catch { /* the gateway was not reached: the next look may reach it */ }
  setTimeout(look, wait);
}
setTimeout(look, 300);
