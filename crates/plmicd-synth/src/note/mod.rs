//! The text of the notes.
//!
//! A report is drafted as items (sentences, list entries, laboratory lines) in sections: first the evidence
//! of the assigned codes ([`evidence`]), then mentions of codes that were not assigned ([`distractor`]), then
//! neutral filler until the wanted length ([`report`]); [`layout`] prints it.

pub(crate) mod distractor;
pub(crate) mod draft;
pub(crate) mod evidence;
pub(crate) mod layout;
pub(crate) mod other;
pub(crate) mod report;
pub(crate) mod scene;
pub(crate) mod section;
