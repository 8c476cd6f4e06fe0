// Draws time series from the tables that stand in the page, with uPlot on the pages that load it.
const charts = new Map(); // figure → its plot, the data that it shows, and the key of all that needs another plot
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const longMoment = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
const seriesDashes = [[], [6, 3], [2, 3], [10, 3, 2, 3], [4, 2], [1, 2]];

// In the zone of the figure, such as that of a schedule, or in the reader's.
function formatterOf(figure, parts) {
  try {
    return new Intl.DateTimeFormat(undefined, { ...parts, timeZone: figure.dataset.zone });
  } catch { // a zone that this browser does not know
    delete figure.dataset.zone;
    return new Intl.DateTimeFormat(undefined, parts);
  }
}

function readChart(figure) {
  const rows = [...figure.querySelectorAll("tbody tr")];
  const names = [...figure.querySelectorAll("thead th")].slice(1).map((cell) => cell.textContent);
  const times = rows.map((row) => Date.parse(row.querySelector("time").dateTime) / 1000);
  const lines = names.map((_, column) => rows.map((row) => {
    const value = row.querySelectorAll("td")[column].dataset.value;
    return value === "" ? null : Number(value);
  }));
  return { names, times, lines };
}

// Stacked areas: each line is drawn at the sum of those up to it.
function stackLines(lines) {
  const sums = new Array(lines.length ? lines[0].length : 0).fill(0);
  return lines.map((line) => line.map((value, row) => (sums[row] += value ?? 0)));
}

function formatNumber(value, digits) {
  if (value == null) return "–";
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function chartOptions(figure, data, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const font = `11px ${style.getPropertyValue("--sans")}`;
  const digits = Number(figure.dataset.digits);
  const isStacked = "stacked" in figure.dataset;
  const compact = (value) => value.toLocaleString("en-US", { notation: Math.abs(value) >= 10000 ? "compact" : "standard", maximumFractionDigits: 2 });
  const isWithinDays = data.times.at(-1) - data.times[0] < 2 * 86400;
  const seconds = data.times.at(-1) - data.times[0] < 300 ? { second: "2-digit" } : {};
  const moment = formatterOf(figure, figure.dataset.zone ? { ...longMoment, timeZoneName: "short" } : longMoment);
  const tick = formatterOf(figure, isWithinDays ? { hour: "2-digit", minute: "2-digit", ...seconds, hourCycle: "h23" } : { month: "short", day: "numeric" });
  const axis = { stroke: colour("--muted"), font, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const showRow = (plot) => {
    const row = plot.cursor.idx;
    figure.querySelector("[data-chart-moment]").textContent = row == null ? "" : moment.format(new Date(data.times[row] * 1000));
    figure.querySelectorAll("[data-chart-value]").forEach((element, index) => {
      element.textContent = row == null ? "" : `${formatNumber(data.lines[index][row], digits)} ${figure.dataset.unit}`;
    });
  };
  return {
    width,
    height: 180,
    tzDate: (seconds) => figure.dataset.zone ? uPlot.tzDate(new Date(seconds * 1000), figure.dataset.zone) : new Date(seconds * 1000),
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.08] } },
    axes: [
      { ...axis, grid: { show: false }, space: 70, size: 28, values: (_, ticks) => ticks.map((seconds) => tick.format(new Date(seconds * 1000))) },
      { ...axis, size: 52, space: 36, values: (_, ticks) => ticks.map(compact) },
    ],
    bands: isStacked ? data.names.slice(1).map((_, index) => ({ series: [index + 2, index + 1] })) : [],
    series: [
      {},
      ...data.names.map((name, index) => ({
        label: name,
        stroke: colour(`--series-${(index % 6) + 1}`),
        fill: isStacked || data.names.length === 1 ? `${colour(`--series-${(index % 6) + 1}`)}22` : undefined,
        width: 1.75,
        dash: seriesDashes[index % 6],
        points: { show: data.times.length < 2 },
      })),
    ],
    hooks: { setCursor: [showRow] },
  };
}

function drawChart(figure) {
  const area = figure.querySelector("[data-chart-plot]");
  const data = readChart(figure);
  if (!data.times.length || !data.names.length) return;
  area.hidden = false;
  const width = area.clientWidth;
  if (!width) return; // in something that is closed
  const known = charts.get(figure);
  const shown = [data.times, ...("stacked" in figure.dataset ? stackLines(data.lines) : data.lines)];
  const key = JSON.stringify([data.names, data.times.length < 2, width, darkScheme.matches]);
  if (known?.key === key) {
    Object.assign(known.data, data);
    known.plot.setData(shown);
    return;
  }
  known?.plot.destroy();
  if (!known) {
    figure.querySelector("[data-chart-numbers]").open = false;
    area.setAttribute("role", "img");
    area.setAttribute("aria-label", `${figure.querySelector(".chart-title").textContent}: a chart of the numbers below`);
  }
  charts.set(figure, { key, data, plot: new uPlot(chartOptions(figure, data, width), shown, area) });
}

function drawCharts() {
  if (typeof uPlot === "undefined") return;
  for (const [figure, { plot }] of charts) {
    if (!figure.isConnected) {
      plot.destroy();
      charts.delete(figure);
    }
  }
  document.querySelectorAll("figure[data-chart]").forEach(drawChart);
}

document.addEventListener("DOMContentLoaded", drawCharts);
document.addEventListener("htmx:after:swap", drawCharts);
document.addEventListener("toggle", drawCharts, true); // a chart in something that was closed
darkScheme.addEventListener("change", drawCharts);
let chartResize;
addEventListener("resize", () => {
  clearTimeout(chartResize);
  chartResize = setTimeout(drawCharts, 150);
});
