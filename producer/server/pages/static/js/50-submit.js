// The upload: a file that is dropped or chosen is sent at once, with its progress; without this script the form does it.
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const zone = form.querySelector("[data-drop]");
  const input = form.querySelector("input[type=file]");
  const progress = zone.querySelector(".upload-progress");
  const problem = zone.querySelector(".upload-problem");
  const MAX_FIELD_BYTES = 60000; // the server takes longer texts as a file
  let isSending = false;
  document.documentElement.classList.add("has-script");

  const formatSize = (count) => {
    for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
      if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
    }
    return `${count} B`;
  };

  function showProblem(message) {
    isSending = false;
    progress.hidden = true;
    problem.textContent = message;
    problem.hidden = false;
  }

  function readMessage(request) {
    const isText = (request.getResponseHeader("content-type") || "").startsWith("text/plain");
    const page = isText ? null : new DOMParser().parseFromString(request.responseText, "text/html");
    const message = isText ? request.responseText : page.body.textContent.trim();
    return message.slice(0, 1000) || `The server answers ${request.status}. Load the page again and repeat the upload.`;
  }

  function showProgress(loaded, total) {
    progress.querySelector("progress").value = total ? (100 * loaded) / total : 0;
    progress.querySelector(".upload-text").textContent = loaded >= total
      ? "Reading the file…" : `${formatSize(loaded)} of ${formatSize(total)}`;
  }

  function send(file) {
    if (isSending) return;
    problem.hidden = true;
    if (file.size > Number(form.dataset.maxBytes)) {
      showProblem(`${file.name} has ${formatSize(file.size)}, and ${form.dataset.maxSize} are taken at most. Split it.`);
      return;
    }
    if (!file.size) {
      showProblem(`${file.name} is empty. Choose a file with rows.`);
      return;
    }
    isSending = true;
    const data = new FormData();
    for (const name of ["csrf_token", "pipeline"]) data.append(name, form.elements[name].value);
    data.append("file", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", form.getAttribute("action"));
    request.setRequestHeader("HX-Request", "true");
    request.upload.addEventListener("progress", (event) => showProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const address = request.getResponseHeader("hx-redirect");
      if (address) window.location.assign(address);
      else showProblem(readMessage(request));
    });
    request.addEventListener("error", () => showProblem("The connection broke off. Send the file again."));
    progress.hidden = false;
    showProgress(0, file.size);
    request.send(data);
  }

  input.addEventListener("change", () => { if (input.files.length) send(input.files[0]); });
  form.addEventListener("submit", (event) => {
    if (event.submitter && event.submitter.hasAttribute("formaction")) return;
    const texts = form.elements.texts.value;
    const file = input.files[0] || (new Blob([texts]).size > MAX_FIELD_BYTES && new File([texts], "pasted-lines.txt"));
    if (!file) return;
    event.preventDefault();
    send(file);
  });
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("is-over"); });
  }
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("is-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length > 1) showProblem("Drop one file. Several files become several batches.");
    else if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
  // A file that misses the zone must not replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
})();

// The form of a file: choices that change the page are applied at once, and a dry run shows that it is out of date.
(() => {
  const form = document.getElementById("submission");
  // What holds for any pipeline and format goes along, so that a choice loses nothing that was typed.
  const carried = ["name", "deadline", "max_failures", "metadata", "priority", "webhook_url", "on_invalid", "reuse"];
  for (const button of document.querySelectorAll("form.reread [data-auto]")) {
    button.hidden = true;
    button.form.addEventListener("change", () => button.form.requestSubmit(button));
    button.form.addEventListener("formdata", (event) => {
      for (const [name, value] of form ? new FormData(form) : []) {
        if (carried.includes(name) && value) event.formData.set(name, value);
      }
    });
  }
  if (!form) return;
  // A choice in the dry run is made in the form, which stays where it is, and checked again.
  form.addEventListener("click", (event) => {
    const choice = event.target.closest("#check button[name]");
    if (!choice) return;
    event.preventDefault();
    const field = document.getElementById(choice.name);
    field.value = choice.value;
    for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, {bubbles: true}));
    form.querySelector(".check-panel > .actions [formaction]").click();
  });
  form.addEventListener("input", () => form.classList.add("is-changed"));
  // The address has what was entered, so that a reload, the back button, or signing in again loses nothing of it.
  const MAX_ADDRESS = 1500, UNSHARED = ["csrf_token", "key", "webhook_url"];
  form.addEventListener("change", () => {
    // A column that is missing there would be guessed again.
    const isKept = ([name, value]) => (value || name.startsWith("column.")) && !UNSHARED.includes(name);
    const entered = [...new FormData(form)].filter(isKept);
    const query = new URLSearchParams(entered).toString();
    if (query.length <= MAX_ADDRESS) history.replaceState(history.state, "", `?${query}`);
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (isTarget(event, "check")) form.classList.remove("is-changed");
  });
})();
