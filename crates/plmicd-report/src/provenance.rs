//! Where a page comes from: told by the run that shows it. The artifact's own bytes must not depend on clocks and
//! machines, so this part is put into a copy.

use minijinja::{Environment, context};
use serde::Serialize;

/// The name decides the escaping: `.html` escapes.
const TEMPLATE: &str = "part.html";
/// Where the part goes; the template of the page has it once, and data cannot: it is escaped.
const PLACE: &str = "<!-- provenance -->";
/// Where links to the reports of a sweep's cells go.
const LINKS: &str = "<!-- links -->";

/// Everything that is known about how a report came about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Provenance {
    /// The command that makes it again.
    pub command: String,
    /// Name and value: program, run, machine.
    pub facts: Vec<(String, String)>,
    /// The stages it comes from, in running order.
    pub stages: Vec<MadeBy>,
    /// Every setting of these.
    pub settings: Vec<Setting>,
    /// The reports of a sweep's cells: name and relative address.
    pub links: Vec<(String, String)>,
}

/// One stage and its output.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MadeBy {
    /// The stage's name in the pipeline file.
    pub name: String,
    /// Name and version of the stage.
    pub stage: String,
    /// Kind of the output.
    pub kind: String,
    /// Digest of the output.
    pub digest: String,
    /// Inputs: slot, what was wired to it, digest.
    pub inputs: Vec<(String, String, String)>,
    /// When it was made.
    pub started: String,
    /// How long that took.
    pub took: String,
    /// On what hardware, with which program.
    pub machine: String,
}

/// One value of a stage's config.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Setting {
    /// The stage's name in the pipeline file.
    pub node: String,
    /// Path of the setting.
    pub name: String,
    /// Its value, as JSON.
    pub value: String,
    /// Where it was set: file and line, command line, default.
    pub place: String,
}

/// A copy of a report page that tells where it comes from. A page without room for that stays as it is.
pub fn with_provenance(page: &str, provenance: &Provenance) -> String {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let part = |template| environment.render_named_str(TEMPLATE, template, context! { of => provenance });
    match (part(include_str!("../templates/provenance.html")), part(include_str!("../templates/links.html")))
    {
        (Ok(own), Ok(links)) => page.replacen(PLACE, &own, 1).replacen(LINKS, &links, 1),
        // The templates are part of the program and tested: no input makes them fail.
        _ => page.to_owned(),
    }
}
