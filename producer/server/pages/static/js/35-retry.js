// The button of a retry counts the jobs of the codes that are ticked.
function countRetry(form) {
  const boxes = [...form.querySelectorAll("input[data-jobs]")];
  if (!boxes.length) return;
  const jobs = boxes.filter((box) => box.checked).reduce((sum, box) => sum + Number(box.dataset.jobs), 0);
  const text = `${jobs.toLocaleString("en-US")} ${jobs === 1 ? "job" : "jobs"}`;
  const button = form.querySelector("button.primary");
  button.disabled = jobs === 0;
  button.textContent = jobs ? `Retry ${text}` : "Nothing is chosen";
  form.querySelector("h2").textContent = jobs ? `Retry ${text}?` : "Retry which jobs?";
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-retry]");
  if (form) countRetry(form);
});
document.addEventListener("htmx:after:swap", () => document.querySelectorAll("form[data-retry]").forEach(countRetry));
document.querySelectorAll("form[data-retry]").forEach(countRetry);
