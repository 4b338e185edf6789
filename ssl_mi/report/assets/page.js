"use strict";
(function () {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const drawn = typeof Plotly !== "undefined";
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  const all = (selector) => Array.from(document.querySelectorAll(selector));

  function thumb(row, side) {
    const sheet = page.sheet;
    const part = document.createElement("span");
    part.className = "thumb";
    part.setAttribute("role", "img");
    part.setAttribute("aria-label", described(row));
    if (sheet) {
      part.style.setProperty("--thumb", side + "px");
      part.style.backgroundImage = "var(--sheet)";
      part.style.backgroundSize = sheet.columns * side + "px auto";
      part.style.backgroundPosition = -(row % sheet.columns) * side + "px " + -Math.floor(row / sheet.columns) * side + "px";
    }
    return part;
  }

  function described(row) {
    const name = page.labels ? page.classes[page.labels[row]] : "";
    return "sample " + page.index[row] + (name ? ", " + name : "");
  }

  // Charts of curves.
  if (drawn) {
    for (const [key, figure] of Object.entries(page.charts)) {
      const place = document.getElementById("plot-" + key);
      place.replaceChildren();
      Plotly.newPlot(place, figure.data, figure.layout, options);
    }
  } else {
    all("details.numbers").forEach((part) => { part.open = true; });
  }

  // The map.
  const place = document.getElementById("map-plot");
  const tip = document.getElementById("tip");
  const near = document.getElementById("near");
  let current = null;

  function show(row, x, y) {
    tip.replaceChildren();
    if (page.sheet) tip.append(thumb(row, 112), document.createElement("br"));
    tip.append(described(row));
    const file = page.files ? page.files[row] : "";
    if (file) tip.append(document.createElement("br"), file);
    if (page.captions && !file.includes(page.captions[row])) tip.append(document.createElement("br"), page.captions[row]);
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - width - 4)) + "px";
    tip.style.top = Math.max(4, y + 14 + height > innerHeight ? y - height - 10 : y + 14) + "px";
    current = row;
  }

  function neighboursOf(row) {
    if (!near || !page.neighbours) return;
    near.replaceChildren();
    const line = document.createElement("div");
    line.className = "strip";
    const side = innerWidth < 500 ? 40 : 56;
    const first = thumb(row, side);
    first.classList.add("query");
    line.append(first);
    page.neighbours[row].forEach((other) => line.append(thumb(other, side)));
    const words = document.createElement("p");
    words.textContent = "Nearest in h to " + described(row) + ": " + page.neighbours[row].map(described).join("; ");
    near.append(line, words);
  }

  if (place && drawn && page.maps) {
    const kinds = Object.keys(page.maps);
    const traces = page.maps[kinds[0]];
    place.replaceChildren();
    Plotly.newPlot(place, traces.data, traces.layout, options);
    place.on("plotly_hover", (event) => show(event.points[0].customdata, event.event.clientX, event.event.clientY));
    place.on("plotly_unhover", () => { tip.hidden = true; });
    place.on("plotly_click", (event) => neighboursOf(event.points[0].customdata));

    const select = document.getElementById("map-kind");
    select.addEventListener("change", () => {
      const figure = page.maps[select.value];
      const visible = place.data.map((trace) => trace.visible === undefined ? true : trace.visible);
      figure.data.forEach((trace, i) => { trace.visible = visible[i]; });
      Plotly.react(place, figure.data, figure.layout, options);
    });
    const boxes = all("input[data-class]");
    const filter = () => Plotly.restyle(place, "visible", boxes.map((box) => box.checked));
    boxes.forEach((box) => box.addEventListener("change", filter));
    all("button[data-all]").forEach((button) => button.addEventListener("click", () => {
      boxes.forEach((box) => { box.checked = button.dataset.all === "true"; });
      filter();
    }));

    // By keyboard: arrows step from point to point of the classes that are shown, Enter shows the neighbours.
    place.addEventListener("keydown", (event) => {
      const shown = place.data.flatMap((trace) => trace.visible === false ? [] : trace.customdata);
      if (event.key === "Escape") tip.hidden = true;
      if (event.key === "Enter" && current !== null) neighboursOf(current);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !shown.length) return;
      event.preventDefault();
      const at = shown.indexOf(current);
      const row = shown[(at + step + shown.length) % shown.length];
      const number = place.data.findIndex((trace) => trace.visible !== false && trace.customdata.includes(row));
      const trace = place.data[number], point = trace.customdata.indexOf(row);
      const box = place.getBoundingClientRect(), axes = place._fullLayout;
      show(row, box.left + axes.xaxis._offset + axes.xaxis.l2p(trace.x[point]),
        box.top + axes.yaxis._offset + axes.yaxis.l2p(trace.y[point]));
      document.getElementById("said").textContent = described(row);
    });
    place.addEventListener("blur", () => { tip.hidden = true; });
  } else if (place) {
    all(".controls").forEach((part) => { part.hidden = true; });
  }

  const small = innerWidth < 500 ? 40 : Infinity;
  all("span.thumb[data-row]").forEach((part) =>
    part.replaceWith(thumb(+part.dataset.row, Math.min(small, +part.dataset.side))));

  // On paper charts have its width, whatever the window had.
  const plots = all(".js-plotly-plot");
  addEventListener("beforeprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: 680 })));
  addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));
})();
