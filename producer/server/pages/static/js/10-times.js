// Times in the reader's time zone, and ages that go on.
const clockFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function formatAge(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.max(0, Math.floor(seconds))} s ago`;
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    if (element.hasAttribute("data-age")) {
      element.textContent = formatAge((Date.now() - moment) / 1000);
      element.title = clockFormat.format(moment);
    } else if (!element.hasAttribute("title")) {
      element.title = element.textContent; // in UTC, as the server writes it
      element.textContent = clockFormat.format(moment);
    }
  }
}

showTimes(document);
setInterval(() => showTimes(document), 15000);
document.addEventListener("htmx:after:swap", () => showTimes(document));
