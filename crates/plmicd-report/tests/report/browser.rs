//! The page in a browser without a screen: its scripts run through, every figure is drawn, nothing is wider than a
//! phone, and everything can be reached with the keyboard. The pictures stay in `target/tmp/` for people to look at.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::inputs::Inputs;

/// Figures of the page of [`Inputs`].
const FIGURES: usize = 8;

/// What a reader's browser is asked once the page stands; the answers are attributes of the root element.
const PROBE: &str = r#"
(() => {
  const root = document.documentElement, told = root.dataset;
  const focusable = Array.from(document.querySelectorAll("a[href], summary, [tabindex='0']"));
  const seen = (element) => element.closest("details:not([open]) > :not(summary)") === null;
  told.unreachable = focusable.filter(seen).filter((element) => { element.focus(); return document.activeElement !== element; }).length;
  told.focusable = focusable.length;
  told.traps = document.querySelectorAll("[tabindex]:not([tabindex='0'])").length;
  // A scroll region that the keyboard cannot reach hides what is right of its edge.
  told.hidden = Array.from(document.querySelectorAll("*")).filter((element) => {
    const style = getComputedStyle(element);
    return element.scrollWidth > element.clientWidth + 1 && ["auto", "scroll"].includes(style.overflowX)
      && element.tabIndex !== 0 && !element.querySelector("a[href]");
  }).length;
  told.beyond = root.scrollWidth - root.clientWidth;
  told.anchors = Array.from(document.querySelectorAll("a[href^='#']")).filter((link) => !document.querySelector(link.hash)).length;
  told.drawn = document.querySelectorAll(".plot .main-svg").length > 0 ? document.querySelectorAll(".js-plotly-plot").length : 0;
  told.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  // On paper every drawing is as wide as a page is, can be scaled, and is drawn in the colours of a light screen.
  const widths = () => Array.from(document.querySelectorAll(".plot > .plot-container .main-svg:first-child"))
    .map((drawing) => Number(drawing.getAttribute("width")));
  const ink = () => getComputedStyle(root).getPropertyValue("--ink").trim();
  const before = widths().join();
  window.dispatchEvent(new Event("beforeprint"));
  told.paper = widths().filter((width) => width <= 680).length;
  told.scalable = document.querySelectorAll(".plot .main-svg:first-child[viewBox]").length;
  told.ink = ink();
  window.dispatchEvent(new Event("afterprint"));
  told.restored = widths().join() === before;
  window.scrollTo(0, 0);
  document.activeElement.blur();
  if (window.parent !== window) window.parent.postMessage(Object.assign({ width: innerWidth }, told), "*");
  told.asked = "yes";
})();
"#;

/// A phone: a page as wide as one. Browsers without a screen have no window as narrow as that.
const PHONE: &str = r#"<!doctype html><html><body style="margin:0">
<script>
addEventListener("message", (event) => Object.assign(document.documentElement.dataset, event.data));
</script>
<iframe src="probed.html" style="width:390px;height:3000px;border:0"></iframe></body></html>"#;

/// The browser's name, or `None` with a word why a test is skipped.
fn browser() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let asked = Command::new(name).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("skipped: no Chromium is installed (apt-get install chromium)");
    }
    found
}

/// A page in the browser.
struct Shown {
    dom: String,
    picture: PathBuf,
}

impl Shown {
    /// What the probe told under this name.
    fn told(&self, name: &str) -> &str {
        let start =
            self.dom.find(&format!(" data-{name}=\"")).unwrap_or_else(|| panic!("{name} was not told"));
        self.dom[start..].split('"').nth(1).unwrap()
    }
}

/// Opens a page in a fresh profile; no script may complain.
fn open(browser: &str, folder: &Path, page: &str, size: (u32, u32), dark: bool, name: &str) -> Shown {
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}.png"));
    let run = |what: &str| -> Output {
        let profile = tempfile::tempdir_in(folder).unwrap();
        Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"])
            .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", what])
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
            .arg(format!("--window-size={},{}", size.0, size.1))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}", folder.join(page).display()))
            .output()
            .unwrap()
    };
    let output = run("--dump-dom");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    let _ = std::fs::remove_file(&picture);
    run(&format!("--screenshot={}", picture.display()));
    Shown { dom: String::from_utf8_lossy(&output.stdout).into_owned(), picture }
}

/// Width and size in bytes of a PNG.
fn picture(path: &Path) -> (u32, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("no picture {}: {error}", path.display()));
    assert_eq!(&bytes[1..4], b"PNG");
    (u32::from_be_bytes(bytes[16..20].try_into().unwrap()), bytes)
}

#[test]
fn the_page_works_on_desktops_and_phones_in_light_and_dark() {
    let Some(browser) = browser() else { return };
    let inputs = Inputs::new();
    let page = inputs.run();
    let folder = inputs.dir.join("out").into_std_path_buf();
    let probed = page.replace("</body>", &format!("<script>{PROBE}</script></body>"));
    std::fs::write(folder.join("probed.html"), probed).unwrap();
    std::fs::write(folder.join("phone.html"), PHONE).unwrap();
    let mut pictures = Vec::new();
    for (name, file, size, dark) in [
        ("desktop-light", "probed.html", (1280, 3000), false),
        ("desktop-dark", "probed.html", (1280, 3000), true),
        ("phone-light", "phone.html", (500, 3000), false),
        ("phone-dark", "phone.html", (500, 3000), true),
    ] {
        let shown = open(browser, &folder, file, size, dark, name);
        let phone = name.starts_with("phone");
        if phone {
            assert_eq!(shown.told("width"), "390", "{name}");
        } else {
            assert_eq!(shown.told("asked"), "yes", "{name}");
        }
        assert_eq!(shown.told("figures"), FIGURES.to_string(), "{name}: the scripts did not run through");
        assert_eq!(shown.told("drawn"), FIGURES.to_string(), "{name}: not every figure was drawn");
        assert_eq!(shown.told("dark"), dark.to_string(), "{name}");
        assert_eq!(shown.told("beyond"), "0", "{name}: the page is wider than its window");
        assert_eq!(shown.told("unreachable"), "0", "{name}: something cannot be reached with the keyboard");
        assert_eq!(shown.told("traps"), "0", "{name}: the order of the keyboard is not that of the page");
        assert_eq!(shown.told("hidden"), "0", "{name}: a wide part cannot be scrolled with the keyboard");
        assert_eq!(shown.told("anchors"), "0", "{name}: a link leads nowhere");
        assert_eq!(shown.told("paper"), FIGURES.to_string(), "{name}: a figure is wider than paper");
        assert_eq!(shown.told("scalable"), FIGURES.to_string(), "{name}: a printed figure cannot be scaled");
        assert_eq!(shown.told("ink"), "#171a21", "{name}: paper is white");
        assert_eq!(shown.told("restored"), "true", "{name}: figures keep the width of paper");
        assert!(shown.told("focusable").parse::<usize>().unwrap() > 20, "{name}");
        let (width, bytes) = picture(&shown.picture);
        assert_eq!(width, size.0, "{name}");
        // An empty page of this size takes about 10 kB.
        assert!(bytes.len() > 60_000, "{name}: the picture has {} bytes only", bytes.len());
        pictures.push(bytes);
    }
    assert!(pictures[0] != pictures[1] && pictures[2] != pictures[3], "dark looks like light");
}
