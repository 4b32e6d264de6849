"use strict";
// Draws the figures in the colours of the page, again when these change, and for paper as wide as paper is.
(function () {
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const font = getComputedStyle(document.body).fontFamily;
  const figures = Array.from(document.querySelectorAll(".plot")).map((place) => ({
    place, spec: JSON.parse(document.getElementById(place.dataset.spec).textContent),
  }));
  // Single points stand out from the lines they lie on; guides stay behind them.
  const coloured = (trace) => {
    if (trace.mode === "markers" && trace.marker.symbol) {
      const open = trace.marker.symbol.endsWith("-open");
      const line = { color: ink(open ? "--ink" : "--card"), width: 2 };
      return Object.assign({}, trace, { marker: Object.assign({ color: ink("--ink"), line }, trace.marker) });
    }
    if (trace.line && trace.line.dash === "dot") {
      return Object.assign({}, trace, { line: Object.assign({ color: ink("--soft") }, trace.line) });
    }
    return trace;
  };
  // Fits the pages of every usual size; the style sheet scales a printed figure to the width of its card.
  const PAPER = 680;
  // A drawing that knows its size can be scaled.
  const scalable = (place) => {
    const drawings = Array.from(place.querySelectorAll(".main-svg"));
    for (const drawing of drawings) {
      drawing.setAttribute("viewBox", `0 0 ${drawing.getAttribute("width")} ${drawing.getAttribute("height")}`);
    }
    if (drawings.length > 0) {
      place.style.setProperty("--shape", `${drawings[0].getAttribute("width")} / ${drawings[0].getAttribute("height")}`);
    }
  };
  const draw = () => {
    const paper = document.documentElement.classList.contains("paper");
    const axis = {
      gridcolor: ink("--faint"), zerolinecolor: ink("--rule"), linecolor: ink("--rule"), automargin: true,
      tickfont: { color: ink("--soft") }, title: { font: { color: ink("--soft"), size: 12 }, standoff: 8 },
    };
    for (const { place, spec } of figures) {
      const layout = Object.assign({
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: font, color: ink("--ink"), size: 12 },
        margin: { l: 52, r: 10, t: 10, b: 40 }, height: 320, hovermode: "closest", dragmode: false,
        hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--rule"), font: { family: font, color: ink("--ink") }, align: "left" },
        legend: { orientation: "h", y: 0, x: 0, yref: "container", yanchor: "bottom", font: { color: ink("--ink") } },
        colorway: ["--s0", "--s1", "--s2", "--s3", "--s4"].map(ink), bargap: 0.3, bargroupgap: 0.08,
      }, spec.layout);
      for (const name of ["xaxis", "yaxis"]) {
        const own = spec.layout[name] || {};
        layout[name] = Object.assign({}, axis, own, { title: Object.assign({}, axis.title, own.title) });
      }
      if (paper) {
        layout.width = PAPER;
      }
      Plotly.react(place, spec.data.map(coloured), layout, { responsive: true, displaylogo: false, displayModeBar: false });
      if (paper) {
        scalable(place);
      }
    }
  };
  draw();
  // Paper is white, whatever the reader's screen is.
  for (const [event, paper] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      document.documentElement.classList.toggle("paper", paper);
      draw();
      // A drawing keeps its last width unless it is asked to look how much room there is.
      if (!paper) {
        figures.forEach(({ place }) => Plotly.relayout(place, { autosize: true }));
      }
    });
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.documentElement.dataset.figures = String(figures.length);
})();
