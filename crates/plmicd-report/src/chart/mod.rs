//! Line charts as SVG: axes with ticks and labels, a legend, marked points. Colours come from the page's
//! style sheet through classes, so one drawing serves light and dark.

mod scale;

use std::fmt::Write;
use std::ops::Range;

pub(crate) use scale::Scale;
use scale::{Axis, tick_text};

/// Size of the drawing in its own units: small enough that text stays readable on a phone.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// Width of an average letter of the legend.
const LETTER: f64 = 6.4;

/// A chart.
pub(crate) struct Chart {
    /// What it shows, for screen readers.
    pub title: &'static str,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub x_scale: Scale,
    pub y_scale: Scale,
    pub series: Vec<Series>,
    pub marks: Vec<Mark>,
}

/// A line.
pub(crate) struct Series {
    pub name: String,
    /// x and y, in the order of x.
    pub points: Vec<(f64, f64)>,
    /// Whether each point gets a dot.
    dots: bool,
}

/// A point singled out, with a text beside it.
pub(crate) struct Mark {
    pub x: f64,
    pub y: f64,
    pub label: String,
}

impl Series {
    /// A plain line.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, dots: false }
    }

    /// A line with a dot at each point.
    pub fn dotted(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, dots: true }
    }
}

impl Chart {
    /// The drawing, as an `svg` element.
    pub fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::new(self.x_scale, all().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::new(self.y_scale, all().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let mut svg = String::new();
        let label = format!("{}: {} over {}", self.title, names.join(", "), self.x_label);
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&label)
        );
        self.axes(&mut svg, &x, &y);
        for (index, series) in self.series.iter().enumerate() {
            line(&mut svg, index, series, &x, &y);
        }
        for mark in &self.marks {
            point(&mut svg, mark, &self.series, &x, &y);
        }
        self.legend(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 7.0,
                at + 4.0,
                tick_text(tick, y.step())
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 17.0,
                tick_text(tick, x.step())
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            escape(self.x_label),
            f64::midpoint(TOP, bottom),
            escape(self.y_label)
        );
    }

    /// Names of the lines, in one row above the plot.
    fn legend(&self, svg: &mut String) {
        let mut left = LEFT;
        let letters = if self.series.len() > 2 { 15 } else { 30 };
        for (index, series) in self.series.iter().enumerate() {
            let name = shorten(&series.name, letters);
            let _ = write!(
                svg,
                "<line class=\"line s{index}\" x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"14\" y2=\"14\"/>\
                 <text class=\"legend\" x=\"{:.1}\" y=\"18\">{}</text>",
                left + 16.0,
                left + 21.0,
                escape(&name)
            );
            left += 21.0 + LETTER * name.chars().count() as f64 + 16.0;
        }
    }
}

fn line(svg: &mut String, index: usize, series: &Series, x: &Axis, y: &Axis) {
    let points: Vec<String> =
        series.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x.place(*px), y.place(*py))).collect();
    let _ = write!(svg, "<polyline class=\"line s{index}\" points=\"{}\"/>", points.join(" "));
    if series.dots {
        for (px, py) in &series.points {
            let _ = write!(
                svg,
                "<circle class=\"dot s{index}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}: {py:.4}</title></circle>",
                x.place(*px),
                y.place(*py),
                escape(&series.name)
            );
        }
    }
}

/// A point with its text, which goes to the side with room and above or below, wherever it is farther from
/// the lines.
fn point(svg: &mut String, mark: &Mark, series: &[Series], x: &Axis, y: &Axis) {
    let (px, py) = (x.place(mark.x), y.place(mark.y));
    let bottom = HEIGHT - BOTTOM;
    let width = LETTER * mark.label.chars().count() as f64;
    let (anchor, text_x, span) = if px > f64::midpoint(LEFT, WIDTH) {
        ("end", px - 9.0, px - 9.0 - width..px)
    } else {
        ("start", px + 9.0, px..px + 9.0 + width)
    };
    // Distance of the nearest line from the middle of a text at this height; none may leave the plot.
    let clearance = |text_y: f64| {
        let middle = text_y - 4.0;
        let heights = series.iter().flat_map(|series| heights(series, &span, x, y));
        heights
            .map(|line_y| (line_y - middle).abs())
            .chain([middle - TOP, bottom - middle])
            .fold(f64::INFINITY, f64::min)
    };
    let heights_tried = [py - 11.0, py + 22.0, py + 44.0];
    let text_y = heights_tried.into_iter().find(|text_y| clearance(*text_y) >= 11.0).unwrap_or(py - 11.0);
    let _ = write!(
        svg,
        "<line class=\"guide\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{py:.1}\" y2=\"{bottom}\"/>\
         <circle class=\"mark\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"5\"/>\
         <text class=\"mark-label\" x=\"{text_x:.1}\" y=\"{text_y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(&mark.label)
    );
}

/// Heights of a line at a few places of a span.
fn heights(series: &Series, span: &Range<f64>, x: &Axis, y: &Axis) -> Vec<f64> {
    const PLACES: u8 = 8;
    let at = |share: f64| {
        let place = span.start + share * (span.end - span.start);
        let pair = series
            .points
            .windows(2)
            .find(|pair| (x.place(pair[0].0)..=x.place(pair[1].0)).contains(&place))?;
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]].map(|(px, py)| (x.place(px), y.place(py)));
        Some(if x1 > x0 { y0 + (y1 - y0) * (place - x0) / (x1 - x0) } else { y0 })
    };
    (0..=PLACES).filter_map(|index| at(f64::from(index) / f64::from(PLACES))).collect()
}

/// A name cut to the letters that fit the legend.
fn shorten(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    name.chars().take(letters - 1).chain(['…']).collect()
}

/// Text for an XML text or attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> String {
        let (x_scale, y_scale) = (Scale::Linear, Scale::LinearFromZero);
        let marks = vec![Mark { x: 1.0, y: 0.5, label: "<b>".to_owned() }];
        Chart { title: "T", x_label: "x", y_label: "y", x_scale, y_scale, series, marks }.svg()
    }

    #[test]
    fn points_are_placed_on_the_axes() {
        let svg = chart(vec![Series::dotted("a", vec![(0.0, 0.0), (10.0, 1.0)])]);
        assert!(svg.contains("points=\"54.0,256.0 466.0,34.0\""), "{svg}");
        assert!(svg.contains(">0.2</text>") && svg.contains(">10</text>"), "{svg}");
    }

    #[test]
    fn texts_are_escaped() {
        let svg = chart(vec![Series::line("<script>\"&", vec![(0.0, 0.0)])]);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && svg.contains("&lt;b&gt;"), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains("<b>"), "{svg}");
    }
}
