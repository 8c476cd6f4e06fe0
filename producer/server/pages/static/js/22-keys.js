// Keys for people who know the pages: `/` searches, `g` and a letter goes to a page, `?` shows all keys.
const PAGES_BY_KEY = { o: "/", b: "/batches", n: "/submit", s: "/schedules", p: "/pipelines" };
const KEY_SECONDS = 1.5; // between `g` and the letter
let wentAt = 0;

function isWriting(element) {
  return element.closest("input, textarea, select, [contenteditable], dialog[open]") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
  const isSecond = event.timeStamp - wentAt < KEY_SECONDS * 1000;
  wentAt = event.key === "g" ? event.timeStamp : 0;
  if (isSecond && PAGES_BY_KEY[event.key]) {
    location.href = PAGES_BY_KEY[event.key];
  } else if (event.key === "/") {
    const search = document.querySelector("main input[type=search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "?") {
    openDialog(document.getElementById("help"));
  }
});

for (const button of document.querySelectorAll("[data-help]")) {
  button.hidden = false;
  button.addEventListener("click", () => openDialog(document.getElementById("help")));
}
