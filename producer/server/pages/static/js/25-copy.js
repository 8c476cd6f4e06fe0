// `<button data-copy="text">` copies the text; `data-copy-from="#id"` copies what an element shows. It works over plain HTTP too.
const COPIED_SECONDS = 1.5;

async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return true;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("readonly", "");
  area.className = "sr-only";
  (document.querySelector("dialog[open]") || document.body).append(area);
  area.focus();
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  event.preventDefault();
  const source = button.dataset.copyFrom ? document.querySelector(button.dataset.copyFrom) : null;
  let isCopied = false;
  try {
    isCopied = await copyText(source ? source.textContent : button.dataset.copy);
  } catch {
    isCopied = false;
  }
  if (button.dataset.label === undefined) button.dataset.label = button.textContent;
  button.textContent = isCopied ? "Copied" : "Select and copy it";
  button.focus();
  clearTimeout(button.copyTimer);
  button.copyTimer = setTimeout(() => {
    button.textContent = button.dataset.label;
  }, COPIED_SECONDS * 1000);
});
