// Requests of htmx carry the token of the session; an error of the connection is shown, never swallowed.
document.addEventListener("htmx:config:request", (event) => {
  const token = document.querySelector('meta[name="csrf-token"]');
  const { request } = event.detail.ctx;
  if (token && request.method !== "GET") request.headers["X-CSRF-Token"] = token.content;
});

function showNotice(text) {
  const notices = document.getElementById("notices");
  const notice = document.createElement("p");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  notices.replaceChildren(notice);
  closeDialogs();
  notice.scrollIntoView({ block: "nearest" });
}

function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

document.addEventListener("htmx:error", (event) => {
  const ctx = event.detail.ctx;
  if (!ctx || ctx.response) return; // what the server answered is shown where the answer says
  if (ctx.request && ctx.request.method === "GET" && !ctx.sourceElement?.matches("a, button, form")) return; // a refresh, not a wish
  showNotice("The server could not be reached, so nothing was done. Try again.");
});

document.addEventListener("htmx:after:swap", (event) => {
  const target = event.detail.ctx.target;
  const id = typeof target === "string" ? target.replace("#", "") : target?.id;
  if (id === "notices") {
    closeDialogs();
    document.getElementById("notices").scrollIntoView({ block: "nearest" });
  }
});
