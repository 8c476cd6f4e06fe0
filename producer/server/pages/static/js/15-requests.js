// Requests of htmx carry the token of the session; an error of the connection is shown, never swallowed.
document.addEventListener("htmx:config:request", (event) => {
  const token = document.querySelector('meta[name="csrf-token"]');
  const { request } = event.detail.ctx;
  if (token && request.method !== "GET") request.headers["X-CSRF-Token"] = token.content;
});

// A dialog is above everything else, and what is filled in there stays.
function showNotice(text) {
  const notice = document.createElement("p");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    dialog.querySelector(":scope > .notice")?.remove();
    dialog.append(notice);
  } else {
    document.getElementById("notices").replaceChildren(notice);
  }
  notice.scrollIntoView({ block: "nearest" });
}

// htmx names what it fills by its element or by its selector.
function isTarget(event, id) {
  const { target } = event.detail.ctx;
  return target === `#${id}` || target?.id === id;
}

document.addEventListener("htmx:error", (event) => {
  const ctx = event.detail.ctx;
  if (!ctx || ctx.response) return; // what the server answered is shown where the answer says
  if (ctx.request && ctx.request.method === "GET" && !ctx.sourceElement?.matches("a, button, form")) return; // a refresh, not a wish
  showNotice("The server could not be reached, so nothing was done. Try again.");
});

// A notice of the server stands above the page, where an open dialog would hide it.
document.addEventListener("htmx:after:swap", (event) => {
  if (!isTarget(event, "notices")) return;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  document.getElementById("notices").scrollIntoView({ block: "nearest" });
});

// A second click on the button of an action must not send it twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  for (const button of form.querySelectorAll("button:not([type=button])")) setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[method=post] button:disabled")) button.disabled = false;
});
