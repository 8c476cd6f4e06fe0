// Fills the parts of a page from its stream of events, and says when what is shown is no longer up to date.
const live = {
  // A page without live parts reads signs of life, so that it too says when the connection is lost.
  root: document.querySelector("[data-live-stream]") ?? document.querySelector("[data-live-pulse]"),
  source: null, // the open stream
  since: 0, // by the server's clock: all that was rendered before is shown
  lastHeard: Date.now(),
  asOf: Date.now(), // when the page was up to date for the last time
  hasTrouble: false, // the server is there, and can't read what the page shows
  version: null,
  retrySeconds: 1,
  timer: null,
  mark: null, // the timer that says that the connection is lost
  isOver: false, // nothing more will come: signed out, or deleted
  newBatches: new Set(),
};
const QUIET_SECONDS = 25; // the server sends something every 10
const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

function showStale(...lines) {
  const mark = document.getElementById("stale");
  const text = lines.map((line) => line.textContent ?? line).join(" ");
  if (mark.dataset.text !== text) {
    mark.dataset.text = text;
    mark.replaceChildren(...lines.map((line) => {
      const paragraph = document.createElement("p");
      paragraph.append(line);
      return paragraph;
    }));
  }
  mark.hidden = false;
}

function hideStale() {
  clearTimeout(live.mark);
  live.mark = null;
  const mark = document.getElementById("stale");
  mark.hidden = true;
  delete mark.dataset.text;
  document.body.classList.remove("is-stale");
}

function linkTo(address, text) {
  const link = document.createElement("a");
  link.href = address;
  link.textContent = text;
  return link;
}

// An old page must not look like a new one, nor take actions that can't be sent.
function markStale(reason) {
  document.body.classList.add("is-stale");
  showStale(`${reason} Data as of ${clockTime.format(new Date(live.asOf))}; trying again…`);
}

function endLive(...lines) {
  live.isOver = true;
  clearTimeout(live.mark);
  closeStream();
  document.body.classList.add("is-stale");
  showStale(...lines);
}

function closeStream() {
  clearTimeout(live.timer);
  live.source?.close();
  live.source = null;
  live.root.dataset.liveState = "closed";
}

function hasParts() {
  return "liveStream" in live.root.dataset;
}

function streamAddress() {
  const address = new URL(live.root.dataset.liveStream ?? live.root.dataset.livePulse, location.href);
  if (hasParts()) address.searchParams.set("since", live.since);
  const rows = [...document.querySelectorAll("[data-live^='row-']")].map((row) => row.dataset.live.slice(4));
  if (rows.length) address.searchParams.set("rows", rows.slice(0, 200).join(","));
  return address;
}

function openStream() {
  if (live.isOver || live.source || document.hidden) return;
  const source = new EventSource(streamAddress());
  live.source = source;
  const on = (name, act) => source.addEventListener(name, (event) => {
    if (source !== live.source) return;
    live.lastHeard = Date.now();
    if (name !== "beat") live.hasTrouble = name === "trouble";
    if (!live.hasTrouble && name !== "hello") live.asOf = live.lastHeard; // which comes also while there is trouble
    act(JSON.parse(event.data));
  });
  on("hello", greet);
  on("beat", ({ at }) => { live.since = at; });
  on("part", fillPart);
  on("state", showState);
  on("new", ({ ids }) => showNewBatches(ids));
  on("trouble", ({ code }) => markStale(code === "unreachable" ? "The server can't reach its database." : "The server can't update this page."));
  on("fine", hideStale);
  on("gone", () => endLive(live.root.dataset.liveGone, linkTo(`/${location.pathname.split("/")[1]}`, "Show the list")));
  on("signed-out", showSignedOut);
  source.addEventListener("error", () => { if (source === live.source) loseStream(); });
}

function greet({ version }) {
  live.retrySeconds = 1;
  hideStale();
  if (live.version && live.version !== version) {
    const reload = linkTo(location.href, "Load the page again");
    showStale("The server has another version now.", reload);
  }
  live.version ??= version;
  live.root.dataset.liveState = "open";
  document.body.dispatchEvent(new CustomEvent("live:open", { bubbles: true }));
}

function showSignedOut() {
  const next = encodeURIComponent(location.pathname + location.search);
  endLive("Your session has ended.", linkTo(`/login?next=${next}`, "Sign in"));
}

// The page is as good as one without scripts: it shows what was so when it was loaded, and can act.
function waitForRoom() {
  for (const timer of [live.mark, live.timer]) clearTimeout(timer);
  live.mark = null;
  live.timer = setTimeout(openStream, 30_000);
  const reload = linkTo(location.href, "Load the page again");
  showStale("Live updates are off, because too many pages are open.", reload);
}

async function loseStream() {
  closeStream();
  if (live.isOver || document.hidden || live.isLeaving) return;
  live.timer = setTimeout(openStream, live.retrySeconds * 1000);
  live.mark ??= setTimeout(() => markStale("Connection lost."), 1200); // a server that starts again may let us wait
  live.retrySeconds = Math.min(5, live.retrySeconds * 1.5);
  try {
    const answer = await fetch("/events/check", { redirect: "manual", headers: { "HX-Request": "true" }, cache: "no-store" });
    const isSignedOut = answer.type === "opaqueredirect" || [401, 403].includes(answer.status) || answer.headers.has("hx-redirect");
    if (isSignedOut) showSignedOut();
    else if (answer.status === 429) waitForRoom();
    else if (answer.status >= 500) markStale("The server can't answer now.");
    else if (live.retrySeconds > 3) markStale("The live connection fails.");
  } catch {
    if (!live.isLeaving && live.mark) markStale("Connection lost.");
  }
}

function fillPart({ name, html, at }) {
  live.since = Math.max(live.since, at);
  if (document.body.classList.contains("is-stale")) hideStale();
  const target = document.querySelector(`[data-live="${CSS.escape(name)}"]`);
  if (!target || target.contains(document.querySelector("dialog[open]"))) return;
  const swap = target.matches("tr, [data-live-whole]") ? "outerMorph" : "innerMorph";
  htmx.swap({ sourceElement: target, target, text: html, swap });
}

// Results are not put under the eyes of somebody who reads them: a line says that there are more. A first page that was
// not full is filled, and all is up to date when the batch has ended, unless somebody has chosen other rows.
async function showState({ last_seq: lastSeq, status }) {
  for (const line of document.querySelectorAll("[data-live-results]")) {
    const rows = document.querySelector("#results[data-plain-rows]");
    const hasEnded = !["validating", "in_progress", "cancelling"].includes(status);
    const isNew = lastSeq > Number(line.dataset.liveResults) || (hasEnded && line.dataset.liveEnded === undefined);
    if (rows && isNew && (hasEnded || rows.dataset.plainRows === "some") && !rows.contains(document.activeElement)) {
      if (await readRows(line.dataset.firstRows)) {
        line.dataset.liveResults = Math.max(lastSeq, Number(line.dataset.liveResults));
        if (hasEnded) line.dataset.liveEnded = "";
      }
    }
    const count = lastSeq - Number(line.dataset.liveResults);
    line.hidden = count <= 0;
    line.firstElementChild.textContent = `${count.toLocaleString("en-US")} new ${count === 1 ? "result" : "results"}. Show`;
  }
}

async function readRows(address) {
  const answer = await fetch(address, { headers: { "HX-Request": "true" }, cache: "no-store" }).catch(() => null);
  const target = document.querySelector("#results[data-plain-rows]"); // the reader may have chosen others meanwhile
  if (!answer?.ok || answer.redirected || !target || target.contains(document.activeElement)) return false;
  htmx.swap({ sourceElement: target, target, text: await answer.text(), swap: "outerMorph" });
  return true;
}

function showNewBatches(ids) {
  for (const id of ids) {
    if (!document.querySelector(`[data-live="row-${CSS.escape(id)}"]`)) live.newBatches.add(id);
  }
  if (document.querySelector("[data-live-reload]")) location.reload(); // the first steps have been taken
  const count = live.newBatches.size;
  for (const line of document.querySelectorAll("[data-live-new]")) {
    line.hidden = !count;
    line.firstElementChild.textContent = `${count} new ${count === 1 ? "batch" : "batches"}. Show`;
  }
}

htmx.config.morphIgnore.push("open"); // what the reader has opened stays open

// While the connection is lost, an action would end in the browser's error page, and the page would be gone.
document.addEventListener("submit", (event) => {
  if (!document.body.classList.contains("is-stale") || event.target.method !== "post") return;
  event.preventDefault();
  event.stopImmediatePropagation();
  showNotice("Nothing was sent, because the connection is lost. Try again once the data is up to date.");
}, true);

if (live.root) {
  live.since = Number(live.root.dataset.liveSince ?? 0);
  addEventListener("beforeunload", () => { live.isLeaving = true; });
  addEventListener("pagehide", closeStream);
  addEventListener("pageshow", (event) => {
    live.isLeaving = false;
    if (event.persisted && hasParts()) location.reload(); // from the browser's cache of pages
    else if (event.persisted) openStream(); // and what was typed into a form stays
  });
  addEventListener("offline", () => { closeStream(); markStale("This device is offline."); });
  addEventListener("online", openStream);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) closeStream(); // six of them would take all connections that a browser opens
    else openStream();
  });
  setInterval(() => {
    if (live.source && Date.now() - live.lastHeard > QUIET_SECONDS * 1000) {
      markStale("Connection lost.");
      loseStream();
    }
  }, 5000);
  openStream();
}
