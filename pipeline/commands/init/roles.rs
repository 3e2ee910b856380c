//! Which column is what: id, time, site, label, attribute or feature.

use perennial_connectors::source::{ColumnProfile, Profile};

use super::label::LabelDraft;
use super::{InitArguments, ask};
use crate::config::did_you_mean;
use crate::error::Error;

/// Bound on the values of an attribute.
const MOST_ATTRIBUTE: usize = 20;
/// Bound on the values of a categorical feature.
const MOST_CATEGORICAL: usize = 50;
/// Least number of records to each value of a site that its name does not tell.
const RECORDS_PER_SITE: u64 = 4;

/// A column that every sample has.
struct ColumnRole {
    /// What it is, in a question.
    about: &'static str,
    /// The argument that names it.
    flag: &'static str,
    /// Names that it usually has, the likeliest first.
    names: &'static [&'static str],
    /// What to do if no column can be it.
    hint: &'static str,
    /// Whether a column can be it.
    can_be: fn(&ColumnProfile) -> bool,
    /// Whether a column of so many records may be it though nobody says so.
    may_be: fn(&ColumnProfile, u64) -> bool,
    /// Whether it is, if no other column is likely either.
    is_likely: fn(&ColumnProfile) -> bool,
}

const TIME: ColumnRole = ColumnRole {
    about: "the time of a sample",
    flag: "--time",
    names: &[
        "time",
        "timestamp",
        "datetime",
        "eventtime",
        "date",
        "ts",
        "when",
        "at",
        "created",
    ],
    hint: "a sample needs one, as the stream is in its order; RFC 3339, dates, and Unix seconds are \
           understood",
    can_be: |column| column.filled > 0 && column.times == column.filled,
    may_be: |column, _| column.recent == column.filled,
    is_likely: written_as_date,
};

const ID: ColumnRole = ColumnRole {
    about: "the id of a sample, which no other has",
    flag: "--id",
    names: &["id", "uuid", "sample", "record", "row", "index", "key"],
    hint: "a sample needs one, as labels and predictions are joined by it. This adds one to a CSV \
           file: awk 'NR == 1 {print \"id,\" $0; next} {print NR - 1 \",\" $0}'",
    can_be: |column| column.filled > 0,
    may_be: is_id,
    is_likely: |_| true,
};

const SITE: ColumnRole = ColumnRole {
    about: "the building, machine or other place that a sample was taken at",
    flag: "--site",
    names: &[
        "site", "building", "machine", "device", "station", "room", "sensor", "robot", "camera",
        "counter", "asset", "unit", "plant", "turbine", "vehicle", "engine", "meter", "node",
        "location", "place", "store", "host",
    ],
    hint: "a sample needs one; a column with one value throughout will do",
    can_be: |column| column.filled > 0,
    may_be: |column, _| is_site(column),
    is_likely: is_likely_site,
};

const LABEL: ColumnRole = ColumnRole {
    about: "the label, which is to be predicted",
    flag: "--label",
    names: &["label", "target", "class", "y", "outcome", "vote"],
    hint: "learning needs one",
    can_be: |column| column.filled > 0,
    may_be: |_, _| true,
    is_likely: |_| false,
};

/// What each column is.
pub(super) struct ColumnRoles<'a> {
    pub(super) id: &'a ColumnProfile,
    pub(super) time: &'a ColumnProfile,
    pub(super) site: &'a ColumnProfile,
    pub(super) label: (&'a ColumnProfile, LabelDraft),
    pub(super) attributes: Vec<&'a ColumnProfile>,
    pub(super) numeric: Vec<&'a ColumnProfile>,
    pub(super) categorical: Vec<&'a ColumnProfile>,
    /// Columns that are not used, each with the reason.
    pub(super) left_out: Vec<(&'a ColumnProfile, String)>,
}

impl<'a> ColumnRoles<'a> {
    /// Chooses what the arguments do not say by names and values, or asks.
    ///
    /// # Errors
    /// A column does not exist or cannot be what it is said to be, or nobody answers.
    pub(super) fn choose(
        found: &'a Profile,
        given: &InitArguments,
    ) -> Result<ColumnRoles<'a>, Error> {
        let mut choice = Choice {
            found,
            taken: Vec::new(),
        };
        // What is given is nothing else.
        for (role, name) in [
            (&LABEL, &given.label),
            (&ID, &given.id),
            (&TIME, &given.time),
            (&SITE, &given.site),
        ] {
            if let Some(name) = name {
                choice.taken.push(choice.find(role.flag, name)?);
            }
        }
        let mut attributes = Vec::new();
        for name in given.attributes.iter().flatten() {
            attributes.push(choice.find("--attributes", name)?);
        }
        choice.taken.extend(&attributes);
        let time = choice.one(&TIME, given.time.as_ref())?;
        let label = choice.one(&LABEL, given.label.as_ref())?;
        let id = choice.one(&ID, given.id.as_ref())?;
        let site = choice.one(&SITE, given.site.as_ref())?;
        let [id, time, site, label] = [id, time, site, label].map(|at| &found.columns[at]);
        let kind = LabelDraft::of(label).map_err(|reason| {
            Error::Arguments(format!("\"{}\" cannot be the label: {reason}", label.name))
        })?;
        let mut roles = ColumnRoles {
            id,
            time,
            site,
            label: (label, kind),
            attributes: attributes.iter().map(|at| &found.columns[*at]).collect(),
            numeric: Vec::new(),
            categorical: Vec::new(),
            left_out: Vec::new(),
        };
        for (at, column) in found.columns.iter().enumerate() {
            if !choice.taken.contains(&at) || attributes.contains(&at) {
                roles.add_rest(column, given.attributes.is_none());
            }
        }
        if roles.numeric.is_empty() && roles.categorical.is_empty() {
            let message =
                "no column is left that a model could predict by: numbers, or texts of few values";
            return Err(Error::Arguments(message.to_string()));
        }
        Ok(roles)
    }

    /// Adds a column that is neither id, time, site nor label.
    fn add_rest(&mut self, column: &'a ColumnProfile, chooses_attributes: bool) {
        let count = column.values.len();
        let reason = if column.filled == 0 {
            "always empty".to_string()
        } else if count == 1 {
            "one value throughout".to_string()
        } else if column.is_numeric() {
            self.numeric.push(column);
            return;
        } else if written_as_date(column) {
            "another time".to_string()
        } else if column.has_more || count > MOST_CATEGORICAL {
            let more = if column.has_more { "more than " } else { "" };
            format!("{more}{count} different texts")
        } else {
            self.categorical.push(column);
            if chooses_attributes && count <= MOST_ATTRIBUTE {
                self.attributes.push(column);
            }
            return;
        };
        self.left_out.push((column, reason));
    }
}

/// Columns that are not taken yet.
struct Choice<'a> {
    found: &'a Profile,
    taken: Vec<usize>,
}

impl Choice<'_> {
    /// The column of a name that an argument gives.
    fn find(&self, flag: &str, name: &str) -> Result<usize, Error> {
        let names: Vec<&str> = self
            .found
            .columns
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        let place = names.iter().position(|known| *known == name);
        place.ok_or_else(|| {
            Error::Arguments(format!(
                "{flag}: there is no column \"{name}\"{} (there are: {})",
                did_you_mean(name, &names),
                names.join(", ")
            ))
        })
    }

    /// The column of a role: the given one, or of those that can be it the one with such a name,
    /// else the only likely one, else what is answered. It is taken then.
    fn one(&mut self, role: &ColumnRole, given: Option<&String>) -> Result<usize, Error> {
        if let Some(name) = given {
            let place = self.find(role.flag, name)?;
            if (role.can_be)(&self.found.columns[place]) {
                return Ok(place);
            }
            return Err(Error::Arguments(format!(
                "{}: \"{name}\" cannot be {}: {}",
                role.flag, role.about, role.hint
            )));
        }
        let columns = self.found.columns.iter().enumerate();
        let able: Vec<(usize, &ColumnProfile)> = columns
            .filter(|(at, _)| !self.taken.contains(at))
            .filter(|(_, column)| (role.can_be)(column))
            .filter(|(_, column)| (role.may_be)(column, self.found.records))
            .collect();
        let named = role.names.iter().find_map(|name| {
            let mut able = able.iter();
            able.find(|(_, column)| plain(&column.name) == *name)
        });
        let alike = || {
            able.iter()
                .find(|(_, column)| role.names.iter().any(|name| has_word(&column.name, name)))
        };
        let likely = able.iter().filter(|(_, column)| (role.is_likely)(column));
        let likely: Vec<_> = likely.collect();
        let chosen = match (named.or_else(alike), &likely[..]) {
            (Some((at, _)), _) => *at,
            (None, [(at, _)]) => *at,
            _ => self.ask(role, &able)?,
        };
        self.taken.push(chosen);
        Ok(chosen)
    }

    fn ask(&self, role: &ColumnRole, able: &[(usize, &ColumnProfile)]) -> Result<usize, Error> {
        let ColumnRole {
            about, flag, hint, ..
        } = role;
        let names: Vec<&str> = able
            .iter()
            .map(|(_, column)| column.name.as_str())
            .collect();
        if able.is_empty() {
            return Err(Error::Arguments(format!(
                "no column can be {about}: {hint}"
            )));
        }
        if ask::is_answered() {
            return Ok(able[ask::column(&format!("Which column is {about}?"), &names)?].0);
        }
        Err(Error::Arguments(format!(
            "which column is {about}? Give it: {flag} COLUMN, one of {}",
            names.join(", ")
        )))
    }
}

/// A name in lower case, without what separates its words.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Whether a name of several words has this one at its start or its end.
fn has_word(name: &str, word: &str) -> bool {
    let name = name.to_lowercase();
    let mut words = name.split(|letter: char| !letter.is_alphanumeric());
    words.next() == Some(word) || words.next_back() == Some(word)
}

/// Whether all values are written as dates or times, and not as numbers.
fn written_as_date(column: &ColumnProfile) -> bool {
    column.filled > 0 && column.dates == column.filled
}

fn is_id(column: &ColumnProfile, records: u64) -> bool {
    let is_text_or_whole = column.numbers == column.whole;
    column.is_unique && column.filled == records && is_text_or_whole && !written_as_date(column)
}

fn is_site(column: &ColumnProfile) -> bool {
    let is_text_or_whole = column.numbers == column.whole;
    is_text_or_whole && !written_as_date(column)
}

/// Whether a column of texts could be the site whatever its name: values come again.
fn is_likely_site(column: &ColumnProfile) -> bool {
    let count = column.values.len() as u64;
    let comes_again = count >= 2 && column.filled >= RECORDS_PER_SITE * count;
    column.numbers == 0 && !column.has_more && comes_again
}
