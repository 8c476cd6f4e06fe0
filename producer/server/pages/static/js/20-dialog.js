// `<dialog id="dialog">` opens when htmx fills it. Esc, a link or button with `data-close`, and a click beside it close it.
let openedBy = null;

function openDialog(dialog) {
  if (dialog.open) return;
  openedBy = document.activeElement;
  dialog.showModal();
}

function focusFirst(dialog) {
  const first = dialog.querySelector("[autofocus], input:not([type=hidden]):not([tabindex='-1']), select, textarea, button, a[href]");
  if (first) first.focus();
}

document.addEventListener("htmx:after:swap", (event) => {
  const dialog = document.getElementById("dialog");
  if (!isTarget(event, "dialog") || !dialog.textContent.trim()) return;
  openDialog(dialog);
  const heading = dialog.querySelector("h1, h2");
  if (heading) {
    heading.id ||= "dialog-title";
    dialog.setAttribute("aria-labelledby", heading.id);
  }
  focusFirst(dialog);
});

document.addEventListener("click", (event) => {
  const dialog = event.target.closest("dialog[open]");
  if (!dialog) return;
  if (event.target.closest("[data-close]")) {
    event.preventDefault();
    dialog.close();
  } else if (event.target === dialog && isOutside(dialog, event)) {
    dialog.close();
  }
});

function isOutside(dialog, event) {
  const box = dialog.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("close", () => {
    if (dialog.id === "dialog") dialog.replaceChildren();
    if (openedBy && openedBy.isConnected) openedBy.focus();
    openedBy = null;
  });
}
