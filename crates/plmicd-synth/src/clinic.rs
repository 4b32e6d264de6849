//! Which codes an admission has: clinical profiles, Zipf-like frequencies, links between codes and families
//! that exclude one another.

use crate::codes::{Class, CodeId, CodeTable, Membership};
use crate::config::SynthConfig;
use crate::error::SynthError;
use crate::random::{Purpose, Stream};
use crate::tsv;

/// Added to the rank before the power is taken, so that the first codes are not far ahead of the next.
const ZIPF_OFFSET: f64 = 5.0;
/// Share of a theme's codes that strays into admissions of other profiles.
const STRAY: f64 = 0.05;
/// Weight of common conditions (hypertension, lipids, ...) in every adult profile.
const COMMON: f64 = 0.8;
/// No code is certain, whatever the profile.
const MOST_LIKELY: f64 = 0.85;
/// Spread of the number of codes between admissions (log-normal, mean 1).
const SEVERITY_SPREAD: f64 = 0.4;
/// The share of newborns in `profiles.tsv` is drawn per subject, the others per admission.
const NEWBORN: &str = "nbn";
const SIMULATED: u64 = 800;

/// Draws codes.
pub(crate) struct Clinic {
    shares: Vec<f64>,
    newborn_share: f64,
    newborn_profile: usize,
    profiles: Vec<Profile>,
    /// Codes in use: ids below this.
    codes: usize,
    chronic: Vec<bool>,
}

/// How likely each code is under one theme.
struct Profile {
    name: &'static str,
    probability: Vec<f64>,
    /// Running sums of `probability`, to draw distractors from.
    sums: Vec<f64>,
}

/// What is fixed for all admissions of a subject.
pub(crate) struct Constitution {
    pub(crate) sex: char,
    pub(crate) newborn: bool,
    /// One number in [0, 1) for each code in use: chronic codes compare it with their probability, so that
    /// they come back at the next admission.
    pub(crate) dispositions: Vec<f64>,
}

/// The codes of an admission.
pub(crate) struct Drawn {
    pub(crate) profile: usize,
    pub(crate) codes: Vec<CodeId>,
}

impl Clinic {
    /// Reads the profiles and scales the frequencies so that an admission has `codes_per_admission` codes on
    /// average when all are in use.
    pub(crate) fn new(config: &SynthConfig, table: &CodeTable) -> Result<Self, SynthError> {
        let rows = tsv::rows("profiles.tsv", include_str!("../data/profiles.tsv"), 3)?;
        let mut names = Vec::new();
        let mut shares = Vec::new();
        let mut affinities: Vec<Vec<(&str, f64)>> = Vec::new();
        for row in &rows {
            names.push(row.text(0));
            shares.push(row.number::<f64>(1)?);
            let mut row_affinities = Vec::new();
            for pair in row.text(2).split(' ') {
                let parsed = pair.split_once(':').and_then(|(name, v)| Some((name, v.parse::<f64>().ok()?)));
                row_affinities.push(parsed.ok_or_else(|| row.bad("expected affinities such as car:0.5"))?);
            }
            affinities.push(row_affinities);
        }
        let newborn_profile = names.iter().position(|n| *n == NEWBORN).unwrap_or(0);
        let total: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
        let newborn_share = shares[newborn_profile];

        // affinity(profile, cluster), scaled so that its mean over admissions is 1: then the profile moves
        // a code between admissions without changing how frequent it is.
        let affinity = |profile: usize, cluster: &str| -> f64 {
            match (profile == newborn_profile, cluster) {
                (true, NEWBORN) => 1.0,
                (true, _) | (false, NEWBORN) => 0.0,
                (false, "com") => COMMON,
                (false, _) => {
                    affinities[profile].iter().find(|(name, _)| *name == cluster).map_or(STRAY, |(_, v)| *v)
                }
            }
        };
        let weight = |rank: usize| (rank as f64 + ZIPF_OFFSET).powf(-config.zipf_exponent);
        let mut profiles: Vec<Profile> = names
            .iter()
            .map(|name| Profile {
                name,
                probability: Vec::with_capacity(table.codes.len()),
                sums: Vec::new(),
            })
            .collect();
        for (rank, code) in table.codes.iter().enumerate() {
            let mean: f64 = (0..names.len()).map(|p| shares[p] * affinity(p, code.cluster)).sum();
            for (index, profile) in profiles.iter_mut().enumerate() {
                let boost = if mean > 0.0 { affinity(index, code.cluster) / mean } else { 0.0 };
                profile.probability.push(weight(rank) * boost);
            }
        }
        let chronic = table.codes.iter().map(|c| matches!(c.class, Class::Chronic | Class::Status)).collect();
        let mut clinic =
            Self { shares, newborn_share, newborn_profile, profiles, codes: table.codes.len(), chronic };
        clinic.calibrate(config, table);
        clinic.codes = config.codes;
        for profile in &mut clinic.profiles {
            profile.probability.truncate(config.codes);
            profile.sums = profile
                .probability
                .iter()
                .scan(0.0, |sum, p| {
                    *sum += p;
                    Some(*sum)
                })
                .collect();
        }
        Ok(clinic)
    }

    /// Links add codes, families and caps take some away: scale until simulated admissions have the mean asked for.
    fn calibrate(&mut self, config: &SynthConfig, table: &CodeTable) {
        let wanted = config.codes_per_admission;
        let expected: f64 =
            self.profiles.iter().zip(&self.shares).map(|(p, s)| s * p.probability.iter().sum::<f64>()).sum();
        let mut factor = wanted / expected;
        for _ in 0..5 {
            for probability in self.profiles.iter_mut().flat_map(|p| &mut p.probability) {
                *probability *= factor;
            }
            let mut total = 0;
            for index in 0..SIMULATED {
                let mut stream = Stream::new(config.seed, Purpose::Calibration, index);
                let constitution = self.constitution(&mut stream);
                total += self.draw(table, &constitution, &mut stream).codes.len();
            }
            factor = wanted * SIMULATED as f64 / total.max(1) as f64;
        }
    }

    /// Draws what a subject keeps over all admissions.
    pub(crate) fn constitution(&self, stream: &mut Stream) -> Constitution {
        let newborn = self.is_newborn(stream);
        let sex = if stream.chance(0.44) { 'F' } else { 'M' };
        Constitution { sex, newborn, dispositions: (0..self.codes).map(|_| stream.unit()).collect() }
    }

    /// The first draw of [`Clinic::constitution`]: whether the subject is a newborn.
    pub(crate) fn is_newborn(&self, stream: &mut Stream) -> bool {
        stream.chance(self.newborn_share)
    }

    /// The codes of an admission, in no particular order; at least one.
    pub(crate) fn draw(&self, table: &CodeTable, constitution: &Constitution, stream: &mut Stream) -> Drawn {
        let profile = if constitution.newborn {
            self.newborn_profile
        } else {
            let mut shares = self.shares.clone();
            shares[self.newborn_profile] = 0.0;
            stream.weighted(&shares)
        };
        // Log-normal with mean 1.
        let severity = (SEVERITY_SPREAD * stream.normal() - SEVERITY_SPREAD * SEVERITY_SPREAD / 2.0).exp();
        let fits = |id: CodeId| table.get(id).sex.is_none_or(|sex| sex == constitution.sex);
        let mut codes = Vec::with_capacity(16);
        for (rank, p) in self.profiles[profile].probability.iter().enumerate() {
            if *p == 0.0 {
                continue;
            }
            let p = (p * severity).min(MOST_LIKELY);
            let at = if self.chronic[rank] { constitution.dispositions[rank] } else { stream.unit() };
            if at < p && fits(rank as CodeId) {
                codes.push(rank as CodeId);
            }
        }
        let mut next = 0;
        while let Some(&given) = codes.get(next) {
            for link in &table.links[usize::from(given)] {
                let usable = usize::from(link.code) < self.codes && fits(link.code);
                if stream.chance(link.probability) && usable && !codes.contains(&link.code) {
                    codes.push(link.code);
                }
            }
            next += 1;
        }
        stream.shuffle(&mut codes);
        let mut kept: Vec<CodeId> = Vec::with_capacity(codes.len());
        for id in codes.iter().copied() {
            let excluded = table.get(id).family.is_some_and(|(family, membership)| {
                let others = |list: &[CodeId], wanted: &[Membership]| {
                    list.iter().any(|other| {
                        *other != id
                            && matches!(table.get(*other).family, Some((f, m)) if f == family && wanted.contains(&m))
                    })
                };
                match membership {
                    Membership::Exclusive => others(&kept, &[Membership::Exclusive]),
                    Membership::Member => false,
                    Membership::Yields => {
                        others(&codes, &[Membership::Member]) || others(&kept, &[Membership::Yields])
                    }
                }
            });
            if !excluded {
                kept.push(id);
            }
        }
        if kept.is_empty() {
            kept.push(self.fallback(table, profile, &fits, stream));
        }
        Drawn { profile, codes: kept }
    }

    /// Every admission has a code: one likely under the profile, or the most frequent one that fits.
    fn fallback(
        &self,
        table: &CodeTable,
        profile: usize,
        fits: &dyn Fn(CodeId) -> bool,
        stream: &mut Stream,
    ) -> CodeId {
        let probability = &self.profiles[profile].probability;
        let weights: Vec<f64> = probability
            .iter()
            .enumerate()
            .map(|(rank, p)| if fits(rank as CodeId) { *p } else { 0.0 })
            .collect();
        if weights.iter().any(|w| *w > 0.0) {
            return stream.weighted(&weights) as CodeId;
        }
        (0..table.codes.len() as CodeId).find(|id| fits(*id)).unwrap_or(0)
    }

    /// A code that would have been plausible under the profile.
    pub(crate) fn plausible(&self, profile: usize, stream: &mut Stream) -> Option<CodeId> {
        let sums = &self.profiles[profile].sums;
        (sums.last().is_some_and(|s| *s > 0.0)).then(|| stream.cumulative(sums) as CodeId)
    }

    /// Name of a profile, which is also the cluster of its own codes.
    pub(crate) fn profile_name(&self, profile: usize) -> &'static str {
        self.profiles[profile].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw_many(config: &SynthConfig, count: u64) -> (CodeTable, Vec<Vec<CodeId>>) {
        let table = CodeTable::load().unwrap();
        let clinic = Clinic::new(config, &table).unwrap();
        let drawn = (0..count)
            .map(|index| {
                let constitution = clinic.constitution(&mut Stream::new(9, Purpose::Subject, index));
                clinic.draw(&table, &constitution, &mut Stream::new(9, Purpose::Admission, index)).codes
            })
            .collect();
        (table, drawn)
    }

    fn mean(drawn: &[Vec<CodeId>]) -> f64 {
        drawn.iter().map(Vec::len).sum::<usize>() as f64 / drawn.len() as f64
    }

    #[test]
    fn means_follow_the_settings() {
        let (_, drawn) = draw_many(&SynthConfig::default(), 2_000);
        assert!((11.0..13.0).contains(&mean(&drawn)), "{}", mean(&drawn));
        let (_, few) = draw_many(&SynthConfig { codes: 50, ..SynthConfig::default() }, 2_000);
        assert!((4.5..7.0).contains(&mean(&few)), "{}", mean(&few));
        assert!(few.iter().all(|codes| !codes.is_empty() && codes.iter().all(|c| *c < 50)));
    }

    #[test]
    fn frequencies_have_a_long_tail() {
        let (_, drawn) = draw_many(&SynthConfig::default(), 2_000);
        let mut counts = vec![0usize; 800];
        drawn.iter().flatten().for_each(|id| counts[usize::from(*id)] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let total: usize = counts.iter().sum();
        let top: usize = counts[..40].iter().sum();
        assert!(counts[0] > 400, "the most frequent code is in a fifth of the admissions: {}", counts[0]);
        assert!(top * 10 > total * 3, "the first 5% of the codes make more than 30% of the assignments");
        assert!(counts[400] < counts[0] / 20, "the median code is rare");
    }

    #[test]
    fn related_codes_occur_together_and_families_exclude() {
        let (table, drawn) = draw_many(&SynthConfig::default(), 4_000);
        let id = |code| table.find(crate::codes::System::Diagnosis, code).unwrap();
        let rate = |given: CodeId, wanted: CodeId| {
            let with: Vec<_> = drawn.iter().filter(|codes| codes.contains(&given)).collect();
            with.iter().filter(|codes| codes.contains(&wanted)).count() as f64 / with.len().max(1) as f64
        };
        let overall =
            drawn.iter().filter(|codes| codes.contains(&id("78552"))).count() as f64 / drawn.len() as f64;
        assert!(rate(id("99592"), id("78552")) > 4.0 * overall, "septic shock follows severe sepsis");
        for codes in &drawn {
            let plain = [id("25000"), id("25002"), id("25001")];
            let diabetes = codes.iter().filter(|c| table.get(**c).code.starts_with("250")).count();
            assert!(!codes.iter().any(|c| plain.contains(c)) || diabetes == 1);
            let ckd = codes.iter().filter(|c| table.get(**c).code.starts_with("585")).count();
            assert!(ckd <= 1);
            let mut unique = codes.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), codes.len());
        }
    }
}
