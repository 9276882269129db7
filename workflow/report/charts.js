// The page's interactive parts: a twin of each figure, the runs, the graph of provenance. Data: #page-data (burstbench/paper/interactive.py)
// and the CSV files that the page carries for download.
"use strict";
const pageData = JSON.parse(one("#page-data").textContent);
const PALETTE = { light: ["#0072B2", "#D55E00", "#007a5a", "#a3467f", "#8a6d00", "#3f90c4", "#5c4a9e", "#6b7280"], dark: ["#56B4E9", "#ffa14a", "#3fd0a5", "#e39ac6", "#F0E442", "#9ec9ff", "#b7a6f5", "#b4bdc9"] };
const DASHES = ["solid", "dashed", "dotted"];
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "emptyCircle", "emptyRect"];
const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
const label = (value) => pageData.labels[value] ?? String(value).replaceAll("_", " ").replace(/\b(ttft|tpot|kv)\b/g, (name) => name.toUpperCase());
const number = (value) => {
  if (value === null || value === undefined || value === "" || Number.isNaN(Number(value))) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return Number(value).toExponential(3);
  return Number(Number(value).toPrecision(4)).toLocaleString("en-GB", { maximumSignificantDigits: size >= 1000 ? 9 : 4 });
};
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

// CSV with quotes, as Python's csv module writes it.
function parseCsv(text) {
  const rows = [[]];
  const cell = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r?\n|$)/gy;
  for (let match; cell.lastIndex < text.length && (match = cell.exec(text)); ) {
    rows.at(-1).push(match[1].startsWith('"') ? match[1].slice(1, -1).replaceAll('""', '"') : match[1]);
    if (match[2] !== "," && cell.lastIndex < text.length) rows.push([]);
  }
  const header = rows.shift();
  return rows.filter((row) => row.length === header.length).map((row) => Object.fromEntries(header.map((name, place) => [name, row[place]])));
}
const decoded = (address) => new TextDecoder().decode(Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (sign) => sign.charCodeAt(0)));
const tables = {};
function rowsOf(figure) {
  if (!tables[figure]) {
    tables[figure] = parseCsv(decoded(one(`#${figure} a[download$=".csv"]`).href));
    if (figure === "fig17" && pageData.seeds.length) {
      for (const row of tables[figure]) row.seed = "mean";
      for (const [varied, model, gpu, seed, step, value, metric, mean] of pageData.seeds) tables[figure].push({ varied, model, gpu, seed, step, value, metric, mean, low: "", high: "" });
    }
  }
  return tables[figure];
}

// What all charts share.
const charts = [];
function base(extra) {
  const text = { color: css("ink"), fontSize: 12 };
  return {
    animation: false,
    textStyle: { fontFamily: "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif" },
    color: PALETTE[isDark() ? "dark" : "light"],
    legend: { type: "scroll", top: 0, left: 0, right: 0, textStyle: text, pageTextStyle: text, pageIconColor: css("link"), inactiveColor: css("line"), itemWidth: 22, itemHeight: 10 },
    tooltip: { trigger: "axis", confine: true, backgroundColor: css("card"), borderColor: css("soft"), textStyle: text, axisPointer: { type: "line", lineStyle: { color: css("soft") } } },
    ...extra,
  };
}
const axis = (type, name, extra = {}) => ({
  type, name, nameLocation: "middle", nameTextStyle: { color: css("ink"), fontSize: 12 },
  axisLabel: { color: css("ink"), fontSize: 11, hideOverlap: true, formatter: type === "category" ? undefined : (value) => short(value) },
  axisLine: { show: true, lineStyle: { color: css("soft") } }, axisTick: { show: true, lineStyle: { color: css("soft") } }, splitLine: { lineStyle: { color: css("line") } }, ...extra,
});
const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))} M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))} k`;
  return size !== 0 && size < 0.001 ? Number(value).toExponential(0) : String(Number(value.toPrecision(6)));
};
const zooms = (axes) => [
  { type: "inside", xAxisIndex: axes, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true },
  { type: "slider", xAxisIndex: axes, filterMode: "none", height: 18, bottom: 4, brushSelect: false, borderColor: css("line"), fillerColor: `${css("link")}33`, handleStyle: { color: css("link") }, textStyle: { color: css("ink"), fontSize: 10 }, labelFormatter: (value, text) => (text && Number.isNaN(Number(text)) ? text : short(Number(value))), showDataShadow: false },
];
const grid = { left: 62, right: 16, top: 34, bottom: 66 };
const interval = (low, high) => ([low, high].some((end) => end === "" || end === null || end === undefined || Number.isNaN(Number(end))) ? "" : ` [${number(low)}, ${number(high)}]`);

// A band between two lines: one polygon, drawn with the series' first point.
function band(points, colour) {
  const inside = points.filter((point) => Number.isFinite(point[2]) && Number.isFinite(point[3]));
  return {
    type: "custom", silent: true, clip: true, z: 1, tooltip: { show: false }, data: inside.map((point) => [point[0], point[2], point[3]]), encode: { x: 0, y: [1, 2] },
    renderItem: (params, api) => params.dataIndex === 0 && ({ type: "polygon", shape: { points: [...inside.map((p) => api.coord([p[0], p[2]])), ...inside.toReversed().map((p) => api.coord([p[0], p[3]]))] }, style: { fill: colour, opacity: 0.18 } }),
  };
}
function whiskers(points, colour, offset) {
  return {
    type: "custom", silent: true, clip: true, z: 5, tooltip: { show: false }, data: points.filter((p) => Number.isFinite(p[2]) && Number.isFinite(p[3])).map((p) => [p[0], p[2], p[3]]), encode: { x: 0, y: [1, 2] },
    renderItem: (params, api) => {
      const [x, low] = api.coord([api.value(0), api.value(1)]);
      const high = api.coord([api.value(0), api.value(2)])[1];
      const at = x + offset(api.size([1, 0])[0]);
      const style = { stroke: colour, lineWidth: 1.5 };
      const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style });
      return { type: "group", children: [line(at, low, at, high), line(at - 4, low, at + 4, low), line(at - 4, high, at + 4, high)] };
    },
  };
}

const scaled = (row, column, view) => (column && row[column] !== "" && row[column] !== undefined && row[column] !== null ? Number(row[column]) * (view.scale ?? 1) : NaN);
// Rows that pass the view's own filter and the choices, grouped into lines.
function grouped(figure, view, chosen) {
  const rows = rowsOf(figure).filter(
    (row) => Object.entries(view.where ?? {}).every(([name, value]) => row[name] === value) && Object.entries(view.where_not ?? {}).every(([name, value]) => row[name] !== value) &&
      Object.entries(chosen).every(([name, value]) => value === "*" || row[name] === value));
  const columns = [...(view.series ?? []), ...Object.keys(chosen).filter((name) => chosen[name] === "*")];
  const groups = new Map();
  for (const row of rows) {
    const key = columns.map((name) => (view.series_name && name === view.series[0] ? view.series_name.replace("{}", row[name]) : name === "width_s" ? `${Number(row[name]) / 60} min windows` : label(row[name] || "–"))).join(" · ") || label(Object.values(chosen).filter((value) => value !== "*").at(-1) ?? view.y);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return groups;
}
function tip(entries, head) {
  return `<strong>${escaped(head)}</strong><br>${entries.map(([marker, name, text]) => `${marker}${escaped(name)}: <strong>${escaped(text)}</strong>`).join("<br>")}`;
}

const DRAW = {
  lines(figure, view, chosen, log) {
    const series = [];
    let place = 0;
    for (const [name, rows] of grouped(figure, view, chosen)) {
      const colours = PALETTE[isDark() ? "dark" : "light"];
      const colour = colours[place % colours.length];
      const points = rows.map((row) => [Number(row[view.x]) * (view.x_scale ?? 1), scaled(row, view.y, view), scaled(row, view.low, view), scaled(row, view.high, view)]).filter((point) => Number.isFinite(point[1]) && (!log || point[1] > 0) && (!view.x_log || point[0] > 0)).sort((a, b) => a[0] - b[0]);
      series.push({ name, type: "line", color: colour, data: points, encode: { x: 0, y: 1 }, showSymbol: view.points || points.length <= 45, symbol: SYMBOLS[place % SYMBOLS.length], symbolSize: 6, sampling: points.length > 2000 && !view.points ? "lttb" : undefined, lineStyle: { width: view.points ? 0 : 1.8, type: DASHES[Math.floor(place / 3) % 3] }, emphasis: { focus: "series", lineStyle: view.points ? { width: 0 } : {} }, z: 3 });
      if (!log && points.some((point) => Number.isFinite(point[3]))) series.push(band(points, colour));
      place += 1;
    }
    const yName = view.y_name ?? view.y_names[chosen[view.y_of]] ?? label(chosen[view.y_of]);
    return base({
      grid, series, dataZoom: zooms([0]),
      xAxis: axis(view.x_log ? "log" : "value", view.x_name, { nameGap: 24, min: view.x_log ? undefined : "dataMin", max: view.x_log ? undefined : "dataMax", axisLabel: { color: css("ink"), fontSize: 11, hideOverlap: true, showMaxLabel: Boolean(view.x_log), formatter: (value) => short(value) } }),
      yAxis: axis(log ? "log" : "value", yName, { nameGap: 46, scale: !log && !/%/.test(yName) }),
      tooltip: { ...base().tooltip, formatter: (found) => { const shown = found.filter((item) => item.seriesType === "line"); return shown.length ? tip(shown.map((item) => [item.marker, item.seriesName, number(item.value[1]) + interval(item.value[2], item.value[3])]), `${view.x_name}: ${number(shown[0].value[0])}`) : ""; } },
    });
  },
  bars(figure, view, chosen, log) {
    const groups = grouped(figure, view, chosen);
    const keyOf = (row) => view.x.map((name) => (name === "ratio" && row.open === "true" ? "≥ " : "") + label(row[name])).join(", ");
    const categories = [...new Set([...groups.values()].flat().map(keyOf))];
    const series = [];
    const colours = PALETTE[isDark() ? "dark" : "light"];
    [...groups].forEach(([name, rows], place) => {
      const points = rows.map((row) => [categories.indexOf(keyOf(row)), scaled(row, view.y, view), scaled(row, view.low, view), scaled(row, view.high, view)]);
      const published = rows.find((row) => row[view.published]);
      series.push({ name: view.series ? name : view.y_name, type: "bar", barWidth: `${60 / groups.size}%`, color: colours[place], data: points, encode: { x: 0, y: 1 },
        markLine: published && { silent: true, symbol: "none", lineStyle: { color: colours[place], type: "dashed" }, label: { color: css("ink"), formatter: `paper: ${published[view.published]}`, position: "insideEndTop" }, data: [{ yAxis: Number(published[view.published]) }] } });
      series.push(whiskers(points, css("ink"), (width) => width * 0.6 * ((place + 0.5) / groups.size - 0.5) * (groups.size > 1 ? 1.15 : 1)));
    });
    return base({
      grid: { ...grid, bottom: 84 }, series, dataZoom: zooms([0]),
      xAxis: axis("category", view.x_name, { data: categories, nameGap: 34, axisLabel: { color: css("ink"), fontSize: 11, interval: 0, width: 84, overflow: "break" } }),
      yAxis: axis(log ? "log" : "value", view.y_name, { nameGap: 46, max: (range) => { const top = Math.max(...[...groups.values()].flat().map((row) => Math.max(Number(row[view.published]) || 0, scaled(row, view.high, view) || 0))); return top > range.max ? Number((1.1 * top).toPrecision(1 + (top > 10))) : null; } }),
      tooltip: { ...base().tooltip, axisPointer: { type: "shadow" }, formatter: (found) => { const shown = found.filter((item) => item.seriesType === "bar"); return shown.length ? tip(shown.map((item) => [item.marker, item.seriesName, number(item.value[1]) + interval(item.value[2], item.value[3])]), shown[0].axisValueLabel ?? shown[0].name) : ""; } },
    });
  },
  boxes(figure, view, chosen, log) {
    const rows = [...grouped(figure, view, chosen).values()].flat();
    const colours = PALETTE[isDark() ? "dark" : "light"];
    const numbers = (row, names) => names.map((name) => (log ? Math.max(Number(row[name]), 0.5) : Number(row[name])));
    return base({
      grid, dataZoom: zooms([0]),
      xAxis: axis("category", view.x_name, { data: rows.map((row) => row[view.x]), nameGap: 24 }),
      yAxis: axis(log ? "log" : "value", view.y_name, { nameGap: 46 }),
      tooltip: { ...base().tooltip, axisPointer: { type: "shadow" }, formatter: (found) => { const row = rows[found[0].dataIndex]; return tip([["", "whiskers", `${number(row.whisker_low)} to ${number(row.whisker_high)}`], ["", "quartiles", `${number(row.q1)} to ${number(row.q3)}`], ["", "median", number(row.median)], ["", "mean", number(row.mean)], ["", "days", row.days], ["", "beyond the whiskers", row.beyond_whiskers], ["", "paper's median", number(row.published_median)], ["", "paper's quartiles", `${number(row.published_q1)} to ${number(row.published_q3)}`]], `${row[view.x]} h`); } },
      series: [
        { name: "here: quartiles, median, whiskers", type: "boxplot", itemStyle: { color: `${colours[0]}44`, borderColor: colours[0], borderWidth: 1.5 }, data: rows.map((row) => numbers(row, ["whisker_low", "q1", "median", "q3", "whisker_high"])) },
        { name: "paper: median (read off)", type: "scatter", symbol: "diamond", symbolSize: 8, color: css("ink"), data: rows.map((row) => [row[view.x], row.published_median === "" ? "-" : numbers(row, ["published_median"])[0]]), z: 5 },
      ],
    });
  },
  calendar(figure, view, chosen) {
    const rows = [...grouped(figure, view, chosen).values()].flat();
    const days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const weeks = [...new Set(rows.map((row) => row.iso_week))];
    const counts = rows.map((row) => Number(row[view.y]));
    const blue = isDark() ? ["#1b2a3d", "#2f6ea5", "#9ed0ff"] : ["#eef4fb", "#6aaed6", "#08519c"];
    return base({
      legend: undefined, grid: { ...grid, top: 12, bottom: 70, left: 46 },
      xAxis: axis("category", "", { data: days, splitArea: { show: false } }), yAxis: axis("category", "ISO week", { data: weeks, inverse: true, nameGap: 30 }),
      visualMap: { min: Math.min(...counts), max: Math.max(...counts), calculable: true, orient: "horizontal", left: "center", bottom: 0, itemHeight: 140, itemWidth: 12, textStyle: { color: css("ink") }, inRange: { color: blue }, formatter: (value) => short(value) },
      tooltip: { ...base().tooltip, trigger: "item", formatter: (item) => { const row = rows[item.dataIndex]; return tip([["", view.y_name, number(row[view.y])], ["", "paper", row[view.published] ? `${row.published_is_lower_limit === "true" ? "at least " : ""}${number(row[view.published])}` : "blank"]], `${days[Number(row.weekday) - 1]} ${row.date}`); } },
      series: [{ type: "heatmap", data: rows.map((row) => [days[Number(row.weekday) - 1], row.iso_week, Number(row[view.y])]), itemStyle: { borderColor: css("card"), borderWidth: 2 }, label: { show: innerWidth > 700, color: css("ink"), textBorderColor: css("card"), textBorderWidth: 2, fontSize: 10, formatter: (item) => short(item.value[2]) }, emphasis: { itemStyle: { borderColor: css("ink") } } }],
    });
  },
};

// A chart with its buttons; `option()` says what to draw.
class Chart {
  constructor(place, name, option, controls) {
    Object.assign(this, { place, option, log: false });
    this.live = make("p", { class: "hidden", "aria-live": "polite" });
    this.canvas = make("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${name}. Left and right arrow keys read the values, plus and minus zoom, 0 shows all.` });
    const bar = make("div", { class: "controls" }, ...controls);
    const button = (text, spoken, action) => {
      const made = make("button", { type: "button" }, text, make("span", { class: "hidden" }, ` ${spoken}`));
      made.addEventListener("click", () => action(made));
      bar.append(made);
      return made;
    };
    this.logButton = button("log y", `axis of ${name}`, (made) => { this.log = !this.log; made.setAttribute("aria-pressed", String(this.log)); this.draw(); });
    this.logButton.setAttribute("aria-pressed", "false");
    this.zoomButtons = [button("+", `zoom in ${name}`, () => this.zoom(0.6)), button("−", `zoom out ${name}`, () => this.zoom(1 / 0.6)), button("all", `of ${name}`, () => this.zoom(0))];
    place.append(bar, this.canvas, this.live);
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.at = -1;
    charts.push(this);
    new IntersectionObserver((seen, observer) => { if (seen.some((entry) => entry.isIntersecting)) { observer.disconnect(); this.start(); } }, { rootMargin: "300px" }).observe(place);
  }
  start() {
    if (this.plot) return;
    this.plot = echarts.init(this.canvas, null, { renderer: "canvas" });
    new ResizeObserver(() => this.plot.resize()).observe(this.canvas);
    this.plot.on("showTip", () => {});
    this.draw();
    this.canvas.dataset.drawn = "yes";
  }
  draw() {
    if (!this.plot) return;
    const option = this.option(this.log);
    const zoomable = Boolean(option.dataZoom);
    for (const button of this.zoomButtons) button.hidden = !zoomable;
    this.logButton.hidden = !option.yAxis || Array.isArray(option.yAxis) || option.yAxis.type === "category";
    this.plot.setOption(option, { notMerge: true });
    this.at = -1;
  }
  zoom(factor) {
    const [now] = this.plot.getOption().dataZoom ?? [];
    if (!now) return;
    const [middle, half] = [(now.start + now.end) / 2, factor === 0 ? 50 : ((now.end - now.start) / 2) * factor];
    const start = factor === 0 ? 0 : Math.max(0, Math.min(middle - half, 100 - 2 * half));
    this.plot.dispatchAction({ type: "dataZoom", start, end: Math.min(100, start + 2 * half) });
  }
  key(event) {
    if (!this.plot || event.target !== this.canvas || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const action = { "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6), 0: () => this.zoom(0) }[event.key];
    if (step) {
      const series = this.plot.getOption().series;
      const index = series.findIndex((one) => one.type !== "custom" && one.data?.length);
      if (index < 0) return;
      this.at = Math.max(0, Math.min(series[index].data.length - 1, this.at + step));
      this.plot.dispatchAction({ type: "showTip", seriesIndex: index, dataIndex: this.at });
      this.live.textContent = [...this.canvas.querySelectorAll("div")].map((element) => element.innerText).filter(Boolean).at(-1) ?? "";
    } else if (action) action();
    else return;
    event.preventDefault();
  }
}

function selector(name, values, start, all, change) {
  const select = make("select");
  if (all) select.append(make("option", { value: "*" }, `all (${values.length})`));
  for (const value of values) select.append(make("option", { value }, label(value || "–")));
  select.value = (all && start === "*") || values.includes(start) ? start : values[0];
  select.addEventListener("change", change);
  return [make("label", { class: "choice" }, make("span", {}, name), select), select];
}

// Twins of figures.
for (const place of all(".twin")) {
  const figure = place.dataset.figure;
  const views = pageData.views[figure];
  const name = one(`#${figure} h4`).textContent.trim();
  const controls = make("div", { class: "choices" });
  let view = views[0];
  let selects = {};
  let chart;
  const chosen = () => Object.fromEntries(Object.entries(selects).map(([column, select]) => [column, select.value]));
  const fill = () => {
    controls.replaceChildren();
    selects = {};
    if (views.length > 1) {
      const [made, select] = selector("show", views.map((one) => one.title), view.title, false, () => { view = views.find((one) => one.title === select.value); fill(); chart.draw(); one("select", controls).focus(); });
      controls.append(made);
    }
    const rows = rowsOf(figure).filter((row) => Object.entries(view.where ?? {}).every(([column, value]) => row[column] === value) && Object.entries(view.where_not ?? {}).every(([column, value]) => row[column] !== value));
    for (const { column, start, all: many } of view.choose ?? []) {
      const values = [...new Set(rows.map((row) => row[column]))];
      if (!values.length) continue;
      const [made, select] = selector(column === "gpu" ? "GPU" : column.replaceAll("_", " "), values, start, many && values.length > 1, () => chart.draw());
      selects[column] = select;
      if (values.length > 1) controls.append(made);
    }
  };
  chart = new Chart(place, name, (log) => DRAW[view.kind](figure, view, chosen(), log), [controls]);
  const start = chart.start.bind(chart);
  chart.start = () => { if (!chart.plot) { fill(); chart.log = Boolean(view.y_log); chart.logButton.setAttribute("aria-pressed", String(chart.log)); } start(); };
}

// Runs: one over time, or two side by side.
const runsPlace = one("#run-chart");
if (runsPlace) {
  const { cells, series, metrics } = pageData.runs;
  const called = (cell) => `${label(cell.experiment)} · ${label(cell.model)} · ${label(cell.gpu)} · seed ${cell.seed}`;
  const pickers = { A: one("#run-a"), B: one("#run-b") };
  for (const [side, picker] of Object.entries(pickers)) {
    if (side === "B") picker.append(make("option", { value: "" }, "none"));
    for (const experiment of new Set(cells.map((cell) => cell.experiment))) {
      const group = make("optgroup", { label: label(experiment) });
      cells.forEach((cell, index) => { if (cell.experiment === experiment) group.append(make("option", { value: index }, called(cell))); });
      picker.append(group);
    }
  }
  const first = Math.max(0, cells.findIndex((cell) => cell.experiment === "mirror_api"));
  pickers.A.value = first;
  const other = cells.findIndex((cell) => cell.experiment === cells[first].experiment && cell.model === cells[first].model && cell.gpu !== cells[first].gpu && cell.seed === cells[first].seed);
  pickers.B.value = other < 0 ? "" : other;
  const picked = () => Object.entries(pickers).filter(([, picker]) => picker.value !== "").map(([side, picker]) => [side, cells[picker.value]]);
  const chart = new Chart(runsPlace, "Runs over time", () => {
    const colours = PALETTE[isDark() ? "dark" : "light"];
    const option = base({ grid: [], xAxis: [], yAxis: [], series: [], dataZoom: zooms(series.map((_, index) => index)), axisPointer: { link: [{ xAxisIndex: "all" }] } });
    const total = 960;
    series.forEach(([column, name], index) => {
      const last = index === series.length - 1;
      option.grid.push({ left: 62, right: 16, top: 64 + index * ((total - 140) / series.length), height: (total - 140) / series.length - 32 });
      option.xAxis.push(axis("value", last ? "time from the start of the run (s)" : "", { gridIndex: index, nameGap: 24, min: "dataMin", max: "dataMax", axisLabel: { show: last, color: css("ink"), fontSize: 11 }, axisPointer: { label: { show: last } } }));
      option.yAxis.push(axis("value", name, { gridIndex: index, nameLocation: "end", nameTextStyle: { color: css("ink"), align: "left", padding: [0, 0, 0, -52], fontSize: 12 }, splitNumber: 3, min: 0 }));
      picked().forEach(([side, cell], which) => {
        option.series.push({
          name: `${side}: ${called(cell)}`, type: "line", xAxisIndex: index, yAxisIndex: index, showSymbol: false, color: colours[which], lineStyle: { width: 1.5, type: which ? "dashed" : "solid" }, connectNulls: false, data: cell.time.map((time, at) => [time, cell[column][at]]),
          markLine: which === 0 ? { silent: true, symbol: "none", lineStyle: { color: css("soft"), type: "dotted" }, label: { show: index === 0, color: css("ink"), formatter: (item) => item.name, position: "end" }, data: cell.phases.slice(1).map(([phase, from]) => ({ name: label(phase), xAxis: from })) } : undefined,
        });
      });
    });
    option.tooltip.formatter = (found) => tip(found.map((item) => [item.marker, `${item.seriesName.slice(0, 1)} ${series[item.axisIndex ?? 0]?.[1] ?? ""}`, number(item.value[1])]), `${number(found[0].value[0])} s`);
    return option;
  }, []);
  const steps = { A: one("#step-a"), B: one("#step-b") };
  const body = one("#compare tbody");
  const compare = () => {
    const sides = picked();
    const chosenStep = Object.fromEntries(sides.map(([side, cell]) => [side, cell.steps[steps[side].value]]));
    one("#settings").textContent = sides.map(([side]) => { const at = chosenStep[side]; return at ? `${side}: α ${number(at.alpha)}, β ${number(at.beta)} s, θ ${number(at.theta)}` : ""; }).join("; ");
    body.replaceChildren(...metrics.map(([metric, unit], index) => {
      const values = Object.fromEntries(sides.map(([side]) => [side, chosenStep[side]?.values[index] ?? [null, null, null]]));
      const [a, b] = [values.A, values.B];
      const both = a && b && a[0] !== null && b[0] !== null;
      const apart = both && a[1] !== null && b[1] !== null && (a[2] < b[1] || b[2] < a[1]);
      const cell = (text, kind = "n") => make("td", { class: kind }, text);
      return make("tr", {}, make("th", { scope: "row" }, label(metric)), cell(unit === "1" ? "" : unit, ""), ...["A", "B"].map((side) => cell(values[side] ? number(values[side][0]) + interval(values[side][1], values[side][2]) : "–")),
        cell(both ? number(b[0] - a[0]) : "–"), cell(both && a[0] !== 0 ? number(b[0] / a[0]) : "–"), cell(both && a[1] !== null && b[1] !== null ? (apart ? "apart" : "overlap") : "–", ""));
    }));
  };
  const fillSteps = () => {
    for (const [side, select] of Object.entries(steps)) {
      const cell = cells[pickers[side].value];
      select.replaceChildren(...(cell?.steps ?? []).map((step, index) => make("option", { value: index }, label(step.label))));
      select.disabled = !cell;
    }
    const sides = picked();
    const peak = sides[0][1].steps.length > 1 ? 1 : 0;
    for (const [side, cell] of sides) steps[side].value = Math.min(peak, cell.steps.length - 1);
    compare();
  };
  for (const picker of Object.values(pickers)) picker.addEventListener("change", () => { fillSteps(); chart.draw(); });
  for (const select of Object.values(steps)) select.addEventListener("change", compare);
  fillSteps();
}

// Graph of provenance: a node shows its files; its ancestors and descendants stand out.
const nodes = Object.fromEntries(pageData.graph.nodes.map((node) => [node.id, node]));
function related(id) {
  const walk = (start, next) => { const found = new Set(); const waiting = [start]; while (waiting.length) for (const other of next(waiting.pop())) if (!found.has(other)) { found.add(other); waiting.push(other); } return found; };
  const needs = (of) => nodes[of].needs;
  const feeds = (of) => pageData.graph.nodes.filter((node) => node.needs.includes(of)).map((node) => node.id);
  return new Set([id, ...walk(id, needs), ...walk(id, feeds)]);
}
function showNode(id, speak) {
  const node = nodes[id];
  const kept = related(id);
  for (const element of all("#graph .node")) { element.classList.toggle("faint", !kept.has(element.dataset.node)); element.setAttribute("aria-pressed", String(element.dataset.node === id)); }
  for (const edge of all("#graph .edge")) { const on = kept.has(edge.dataset.from) && kept.has(edge.dataset.to); edge.classList.toggle("faint", !on); edge.classList.toggle("lit", on); }
  const list = (files) => make("ul", { class: "files" }, ...files.map((file) => make("li", {}, make("code", {}, file.path), " ", make("code", { class: "sha", title: "SHA-256" }, file.sha256))));
  const part = (title, ...content) => [make("dt", {}, title), make("dd", {}, ...content)];
  const open = (title, files) => (files.length > 8 ? make("details", {}, make("summary", {}, `${files.length} files`), list(files)) : files.length ? list(files) : "none");
  const versions = Object.entries({ ...pageData.versions, ...node.versions }).map(([name, version]) => `${name} ${version}`).join(", ");
  one("#node").replaceChildren(make("h3", {}, `${node.room}: ${label(node.title)}`), make("dl", {},
    ...part("Rule", make("code", {}, node.rule), node.jobs > 1 ? `, ${node.jobs} jobs` : ""),
    ...part("Time", node.seconds === null ? "of this page: not over when it was written" : `${number(node.seconds)} s${node.jobs > 1 ? " in all" : ""}`),
    ...part("Versions", versions), ...part("Made", open("made", node.files)), ...part("From", open("from", node.inputs))));
  if (speak) one("#node").scrollIntoView({ block: "nearest" });
}
for (const element of all("#graph .node")) {
  element.addEventListener("click", () => showNode(element.dataset.node, true));
  element.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); showNode(element.dataset.node, true); } });
}
for (const link of all("[data-to-node]")) link.addEventListener("click", () => showNode(link.dataset.toNode, false));
if (nodes["figures-fig17"]) showNode("figures-fig17", false);

redraw.push(() => { for (const chart of charts) chart.draw(); });
