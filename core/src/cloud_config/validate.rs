//! Checking a value against a JSON schema (draft 2020-12).
//!
//! Covers what schemas of options need and refuses the rest by name, so that nothing is left
//! unchecked in silence. Written here, and compared with a complete implementation by the tests,
//! because a complete one makes up half of `laz-core`, of `laz` and of PID 1. Work is bounded: a
//! plugin's schema must not be able to stop core.
//!
//! Two liberties: `integer` means a number written without a fraction, as programs take it, and
//! `format` is checked for IP addresses only.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex_lite::Regex;
use serde_json::{Map, Number, Value};

use super::node::{Path, Step};
use super::schema::type_of;

/// Keywords that say something about a value and are not known here.
const REFUSED: [&str; 13] = [
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveRef",
    "additionalItems",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "maxContains",
    "minContains",
    "unevaluatedItems",
    "extends",
];

/// The most schemas applied to parts of one value; more means that a schema goes in circles.
const MOST_STEPS: u32 = 300_000;
/// The deepest nesting of schemas applied inside each other.
const DEEPEST: u32 = 200;

/// One rule of a schema that a value breaks.
#[derive(Debug)]
pub(super) struct Broken<'s> {
    /// The part of the value.
    pub(super) path: Path,
    /// What is there.
    pub(super) found: Value,
    /// The part of the schema that has the rule.
    pub(super) place: &'s Value,
    /// Which rule.
    pub(super) rule: Rule<'s>,
}

/// A rule that is broken.
#[derive(Debug)]
pub(super) enum Rule<'s> {
    /// The type is none of these.
    Type(BTreeSet<&'s str>),
    /// It is none of these values.
    OneOf(Vec<&'s Value>),
    /// An object lacks this field.
    Required(&'s str),
    /// An object has this field, which it may not have.
    Unknown(String),
    /// Text does not match.
    Pattern(&'s str),
    /// Text is not of this format.
    Format(&'s str),
    /// A number is too small, too large or between two steps; the words say how.
    Number(&'static str, &'s Value),
    /// Text, a list or a map is too short or too long; how much there may be, and whether at least.
    Length(u64, bool),
    /// A list has an item twice.
    Twice,
    /// None of the alternatives fits; what each one lacks.
    Alternatives(Vec<Vec<Broken<'s>>>),
    /// More than one alternative fits where only one may.
    Ambiguous,
    /// It is something that it must not be.
    Forbidden,
}

/// Checks `value` against `schema`.
///
/// # Errors
/// What is wrong with the schema itself.
pub(super) fn validate<'s>(schema: &'s Value, value: &Value) -> Result<Vec<Broken<'s>>, String> {
    let check = Check {
        root: schema,
        patterns: RefCell::default(),
        steps: Cell::new(0),
        fault: RefCell::default(),
    };
    let mut broken = Vec::new();
    check.apply(schema, value, &Place::default(), &mut broken);
    match check.fault.into_inner() {
        Some(fault) => Err(fault),
        None => Ok(broken),
    }
}

/// Where in the value, and how deep in the schema, a check is.
#[derive(Debug, Clone, Default)]
struct Place {
    path: Path,
    depth: u32,
}

impl Place {
    fn below(&self, step: Step) -> Self {
        let mut path = self.path.clone();
        path.0.push(step);
        Self {
            path,
            depth: self.depth,
        }
    }
}

struct Check<'s> {
    root: &'s Value,
    patterns: RefCell<BTreeMap<&'s str, Option<Regex>>>,
    steps: Cell<u32>,
    /// What is wrong with the schema; the first such thing.
    fault: RefCell<Option<String>>,
}

/// The fields of an object that some part of a schema has looked at.
type Seen = BTreeSet<String>;

impl<'s> Check<'s> {
    fn fail(&self, fault: impl FnOnce() -> String) {
        self.fault.borrow_mut().get_or_insert_with(fault);
    }

    /// Applies `schema`, adds what is broken, and tells which fields it has looked at.
    fn apply(
        &self,
        schema: &'s Value,
        value: &Value,
        place: &Place,
        broken: &mut Vec<Broken<'s>>,
    ) -> Seen {
        let place = &Place {
            path: place.path.clone(),
            depth: place.depth + 1,
        };
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MOST_STEPS || place.depth > DEEPEST {
            self.fail(|| "it takes too long to check".into());
        }
        if self.fault.borrow().is_some() {
            return Seen::new();
        }
        let keywords = match schema {
            Value::Bool(true) => return Seen::new(),
            Value::Object(keywords) => keywords,
            Value::Bool(false) => {
                broken.push(report(schema, value, place, Rule::Forbidden));
                return Seen::new();
            }
            _ => {
                self.fail(|| format!("{schema} is no schema"));
                return Seen::new();
            }
        };
        if let Some(keyword) = REFUSED
            .iter()
            .find(|keyword| keywords.contains_key(**keyword))
        {
            self.fail(|| format!("`{keyword}` is not supported"));
        }
        let at = At {
            check: self,
            schema,
            keywords,
            place,
        };
        at.general(value, broken);
        match value {
            Value::String(text) => at.text(text, value, broken),
            Value::Number(number) => at.number(number, value, broken),
            Value::Array(items) => at.list(items, value, broken),
            Value::Null | Value::Bool(_) | Value::Object(_) => {}
        }
        let mut seen = at.combined(value, broken);
        if let Value::Object(fields) = value {
            at.object(fields, value, &mut seen, broken);
        }
        seen
    }

    /// Whether `value` fits, and the fields that were looked at if it does.
    fn fits(
        &self,
        schema: &'s Value,
        value: &Value,
        place: &Place,
    ) -> Result<Seen, Vec<Broken<'s>>> {
        let mut broken = Vec::new();
        let seen = self.apply(schema, value, place, &mut broken);
        if broken.is_empty() {
            Ok(seen)
        } else {
            Err(broken)
        }
    }

    fn matches(&self, pattern: &'s str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns
            .entry(pattern)
            .or_insert_with(|| Regex::new(pattern).ok());
        match compiled {
            Some(regex) => regex.is_match(text),
            None => {
                self.fail(|| format!("`{pattern}` is not a pattern that is supported"));
                true
            }
        }
    }
}

fn report<'s>(schema: &'s Value, value: &Value, place: &Place, rule: Rule<'s>) -> Broken<'s> {
    Broken {
        path: place.path.clone(),
        found: value.clone(),
        place: schema,
        rule,
    }
}

/// One schema object, applied at one place.
struct At<'a, 's> {
    check: &'a Check<'s>,
    schema: &'s Value,
    keywords: &'s Map<String, Value>,
    place: &'a Place,
}

impl<'s> At<'_, 's> {
    fn report(&self, value: &Value, rule: Rule<'s>) -> Broken<'s> {
        report(self.schema, value, self.place, rule)
    }

    fn keyword(&self, name: &str) -> Option<&'s Value> {
        self.keywords.get(name)
    }

    fn amount(&self, name: &str) -> Option<u64> {
        self.keyword(name)?.as_u64()
    }

    fn schemas(&self, name: &str) -> impl Iterator<Item = &'s Value> {
        self.keyword(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// `type`, `enum`, `const`.
    fn general(&self, value: &Value, broken: &mut Vec<Broken<'s>>) {
        let types: BTreeSet<&'s str> = match self.keyword("type") {
            Some(Value::String(one)) => BTreeSet::from([one.as_str()]),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => BTreeSet::new(),
        };
        let is = type_of(value);
        let fits = types.contains(is) || (is == "integer" && types.contains("number"));
        if self.keyword("type").is_some() && !fits {
            broken.push(self.report(value, Rule::Type(types)));
        }
        if self.keyword("enum").is_some() && !self.schemas("enum").any(|option| option == value) {
            let options = self.schemas("enum").collect();
            broken.push(self.report(value, Rule::OneOf(options)));
        }
        if let Some(option) = self.keyword("const").filter(|option| *option != value) {
            broken.push(self.report(value, Rule::OneOf(vec![option])));
        }
    }

    fn text(&self, text: &str, value: &Value, broken: &mut Vec<Broken<'s>>) {
        if let Some(pattern) = self.keyword("pattern").and_then(Value::as_str)
            && !self.check.matches(pattern, text)
        {
            broken.push(self.report(value, Rule::Pattern(pattern)));
        }
        if let Some(format) = self.keyword("format").and_then(Value::as_str)
            && !has_format(text, format)
        {
            broken.push(self.report(value, Rule::Format(format)));
        }
        self.length(
            "minLength",
            "maxLength",
            text.chars().count(),
            value,
            broken,
        );
    }

    fn length(
        &self,
        least: &str,
        most: &str,
        length: usize,
        value: &Value,
        broken: &mut Vec<Broken<'s>>,
    ) {
        let length = length as u64;
        if let Some(least) = self.amount(least).filter(|least| length < *least) {
            broken.push(self.report(value, Rule::Length(least, true)));
        }
        if let Some(most) = self.amount(most).filter(|most| length > *most) {
            broken.push(self.report(value, Rule::Length(most, false)));
        }
    }

    fn number(&self, number: &Number, value: &Value, broken: &mut Vec<Broken<'s>>) {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let limits: [(&str, &str, &[std::cmp::Ordering]); 4] = [
            ("minimum", "must be {} or more", &[Less]),
            ("maximum", "must be {} or less", &[Greater]),
            ("exclusiveMinimum", "must be more than {}", &[Less, Equal]),
            (
                "exclusiveMaximum",
                "must be less than {}",
                &[Greater, Equal],
            ),
        ];
        for (keyword, words, bad) in limits {
            if let Some(limit) = self.keyword(keyword)
                && let Value::Number(bound) = limit
                && bad.contains(&compare(number, bound))
            {
                broken.push(self.report(value, Rule::Number(words, limit)));
            }
        }
        if let Some(step) = self.keyword("multipleOf")
            && let Value::Number(unit) = step
            && !is_multiple(number, unit)
        {
            broken.push(self.report(value, Rule::Number("must be a multiple of {}", step)));
        }
    }

    fn list(&self, items: &[Value], value: &Value, broken: &mut Vec<Broken<'s>>) {
        self.length("minItems", "maxItems", items.len(), value, broken);
        if self.keyword("uniqueItems") == Some(&Value::Bool(true)) {
            let texts: BTreeSet<String> = items.iter().map(Value::to_string).collect();
            if texts.len() < items.len() {
                broken.push(self.report(value, Rule::Twice));
            }
        }
        let fixed: Vec<&'s Value> = self.schemas("prefixItems").collect();
        for (index, item) in items.iter().enumerate() {
            let schema = fixed.get(index).copied().or(self.keyword("items"));
            if let Some(schema) = schema {
                let place = self.place.below(Step::Index(index));
                self.check.apply(schema, item, &place, broken);
            }
        }
    }

    /// What applies other schemas to the same value.
    fn combined(&self, value: &Value, broken: &mut Vec<Broken<'s>>) -> Seen {
        let mut seen = Seen::new();
        let apply = |schema, broken: &mut _| self.check.apply(schema, value, self.place, broken);
        if self.keyword("$ref").is_some() {
            let reference = self.keyword("$ref").and_then(Value::as_str);
            let target = reference
                .and_then(|reference| self.check.root.pointer(reference.strip_prefix('#')?));
            match target {
                Some(target) => seen.extend(apply(target, broken)),
                None => self
                    .check
                    .fail(|| format!("{} leads nowhere", self.schema["$ref"])),
            }
        }
        for schema in self.schemas("allOf") {
            seen.extend(apply(schema, broken));
        }
        for keyword in ["anyOf", "oneOf"] {
            self.alternatives(keyword, value, &mut seen, broken);
        }
        if let Some(schema) = self.keyword("not")
            && self.check.fits(schema, value, self.place).is_ok()
        {
            broken.push(self.report(value, Rule::Forbidden));
        }
        if let Some(condition) = self.keyword("if") {
            let holds = self.check.fits(condition, value, self.place);
            let branch = if holds.is_ok() { "then" } else { "else" };
            seen.extend(holds.unwrap_or_default());
            if let Some(schema) = self.keyword(branch) {
                seen.extend(apply(schema, broken));
            }
        }
        seen
    }

    fn alternatives(
        &self,
        keyword: &str,
        value: &Value,
        seen: &mut Seen,
        broken: &mut Vec<Broken<'s>>,
    ) {
        if self.keyword(keyword).is_none() {
            return;
        }
        let (mut fitting, mut lacking) = (0, Vec::new());
        for schema in self.schemas(keyword) {
            match self.check.fits(schema, value, self.place) {
                Ok(fields) => {
                    fitting += 1;
                    seen.extend(fields);
                }
                Err(broken) => lacking.push(broken),
            }
        }
        if fitting == 0 {
            broken.push(self.report(value, Rule::Alternatives(lacking)));
        } else if fitting > 1 && keyword == "oneOf" {
            broken.push(self.report(value, Rule::Ambiguous));
        }
    }

    fn object(
        &self,
        fields: &Map<String, Value>,
        value: &Value,
        seen: &mut Seen,
        broken: &mut Vec<Broken<'s>>,
    ) {
        self.length(
            "minProperties",
            "maxProperties",
            fields.len(),
            value,
            broken,
        );
        for name in self.schemas("required").filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                broken.push(self.report(value, Rule::Required(name)));
            }
        }
        let properties = self.keyword("properties").and_then(Value::as_object);
        let patterns = self.keyword("patternProperties").and_then(Value::as_object);
        for (name, field) in fields {
            let place = self.place.below(Step::Key(name.clone()));
            let mut own = false;
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                own = true;
                self.check.apply(schema, field, &place, broken);
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if self.check.matches(pattern, name) {
                    own = true;
                    self.check.apply(schema, field, &place, broken);
                }
            }
            if let Some(schema) = self.keyword("propertyNames") {
                let name = Value::String(name.clone());
                self.check.apply(schema, &name, &place, broken);
            }
            if !own && let Some(schema) = self.keyword("additionalProperties") {
                own = true;
                self.further(schema, name, field, value, broken);
            }
            if own {
                seen.insert(name.clone());
            }
        }
        if let Some(schema) = self.keyword("unevaluatedProperties") {
            for (name, field) in fields.iter().filter(|(name, _)| !seen.contains(*name)) {
                self.further(schema, name, field, value, broken);
            }
            seen.extend(fields.keys().cloned());
        }
    }

    /// A field that nothing before knew.
    fn further(
        &self,
        schema: &'s Value,
        name: &str,
        field: &Value,
        value: &Value,
        broken: &mut Vec<Broken<'s>>,
    ) {
        if *schema == Value::Bool(false) {
            broken.push(self.report(value, Rule::Unknown(name.to_owned())));
        } else {
            let place = self.place.below(Step::Key(name.to_owned()));
            self.check.apply(schema, field, &place, broken);
        }
    }
}

fn has_format(text: &str, format: &str) -> bool {
    match format {
        "ip" => text.parse::<IpAddr>().is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        _ => true,
    }
}

fn whole(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or(number.as_u64().map(i128::from))
}

fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return a.cmp(&b);
    }
    let float = |number: &Number| number.as_f64().unwrap_or_default();
    float(a)
        .partial_cmp(&float(b))
        .unwrap_or(std::cmp::Ordering::Equal)
}

fn is_multiple(number: &Number, unit: &Number) -> bool {
    if let (Some(number), Some(unit)) = (whole(number), whole(unit)) {
        return unit != 0 && number % unit == 0;
    }
    let quotient = number.as_f64().unwrap_or_default() / unit.as_f64().unwrap_or_default();
    (quotient - quotient.round()).abs() < 1e-9
}
