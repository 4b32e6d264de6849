"use strict";
// Draws the figures in the colours of the page, again when these change.
(function () {
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const figures = Array.from(document.querySelectorAll(".plot")).map((place) => ({
    place, spec: JSON.parse(document.getElementById(place.dataset.spec).textContent),
  }));
  const draw = () => {
    const axis = { gridcolor: ink("--rule"), zerolinecolor: ink("--rule"), linecolor: ink("--rule"), automargin: true };
    for (const { place, spec } of figures) {
      const layout = Object.assign({
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("--ink"), size: 12 },
        margin: { l: 56, r: 12, t: 8, b: 44 }, height: 330, hovermode: "closest",
        legend: { orientation: "h", y: 0, x: 0, yref: "container", yanchor: "bottom" }, colorway: ["--s0", "--s1", "--s2", "--s3", "--s4"].map(ink),
      }, spec.layout);
      layout.xaxis = Object.assign({}, axis, spec.layout.xaxis);
      layout.yaxis = Object.assign({}, axis, spec.layout.yaxis);
      Plotly.react(place, spec.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  };
  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.documentElement.dataset.figures = String(figures.length);
})();
