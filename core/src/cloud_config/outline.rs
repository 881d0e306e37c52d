//! The outline of a YAML text: its nesting, the line of each part, and the limits it must keep.
//!
//! Built from the events of a parser that reports lines; the values come from [`super::yaml`].
//! Aliases point at the part they repeat, so that a text that unfolds to something huge is
//! refused by arithmetic, before anything is unfolded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// The largest text: 1 MiB.
pub(super) const LARGEST_TEXT: usize = 1 << 20;
/// The deepest nesting, aliases followed.
pub(super) const DEEPEST: usize = 32;
/// The most parts (maps, lists, keys and values), aliases followed.
pub(super) const MOST_PARTS: usize = 100_000;

/// Why a text is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// The line, from 1, where it is known.
    pub(super) line: Option<u64>,
    /// Why.
    pub(super) why: String,
}

impl Refused {
    pub(super) fn new(line: Option<u64>, why: impl Into<String>) -> Self {
        Self {
            line,
            why: why.into(),
        }
    }
}

/// What a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Its text as written.
    Scalar(String),
    /// Its items.
    List(Vec<Child>),
    /// Its keys and values in turn.
    Map(Vec<Child>),
}

/// A part inside another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    /// Which part of the outline; an alias is the part it repeats.
    pub(super) part: usize,
    /// The line it is written on; for an alias that of the alias.
    pub(super) line: u64,
}

#[derive(Debug)]
struct Part {
    shape: Shape,
    /// Parts in it, itself included, aliases followed.
    size: usize,
    /// Levels in it, itself included, aliases followed.
    depth: usize,
}

/// The outline of one document.
#[derive(Debug, Default)]
pub(super) struct Outline {
    parts: Vec<Part>,
    root: Option<Child>,
}

impl Outline {
    /// Reads the outline of `text`.
    ///
    /// # Errors
    /// [`Refused`] for bad syntax, more than one document, and what goes beyond the limits.
    pub(super) fn read(text: &str) -> Result<Self, Refused> {
        if text.len() > LARGEST_TEXT {
            return Err(Refused::new(
                None,
                format!("is {} bytes long, 1 MiB at most", text.len()),
            ));
        }
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                Refused::new(
                    Some(error.marker().line() as u64),
                    format!("is not YAML: {}", error.info()),
                )
            })?;
            builder.take(&event, span.start.line() as u64)?;
        }
        Ok(builder.outline)
    }

    /// The document's outermost part; none: the document is empty.
    pub(super) fn root(&self) -> Option<Child> {
        self.root
    }

    /// What `child` is.
    pub(super) fn shape(&self, child: Child) -> &Shape {
        &self.parts[child.part].shape
    }
}

/// A list or a map that has not ended yet.
struct Open {
    is_map: bool,
    anchor: usize,
    line: u64,
    children: Vec<Child>,
}

#[derive(Default)]
struct Builder {
    outline: Outline,
    open: Vec<Open>,
    anchors: HashMap<usize, usize>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: &Event<'_>, line: u64) -> Result<(), Refused> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Refused::new(
                        Some(line),
                        "a second document begins here; write one document, without `---` inside",
                    ));
                }
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some(&part) = self.anchors.get(anchor) else {
                    return Err(Refused::new(
                        Some(line),
                        "this alias repeats what it is part of",
                    ));
                };
                self.place(Child { part, line })
            }
            Event::Scalar(text, _, anchor, _) => {
                self.finish(Shape::Scalar(text.to_string()), *anchor, line)
            }
            Event::SequenceStart(anchor, _) => self.begin(false, *anchor, line),
            Event::MappingStart(anchor, _) => self.begin(true, *anchor, line),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Err(Refused::new(
                        Some(line),
                        "is not YAML: an end without a start",
                    ));
                };
                let shape = if open.is_map {
                    Shape::Map(open.children)
                } else {
                    Shape::List(open.children)
                };
                self.finish(shape, open.anchor, open.line)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, is_map: bool, anchor: usize, line: u64) -> Result<(), Refused> {
        if self.open.len() >= DEEPEST {
            return Err(too_deep(line));
        }
        self.open.push(Open {
            is_map,
            anchor,
            line,
            children: Vec::new(),
        });
        Ok(())
    }

    fn finish(&mut self, shape: Shape, anchor: usize, line: u64) -> Result<(), Refused> {
        let (mut size, mut depth) = (1_usize, 0);
        if let Shape::List(children) | Shape::Map(children) = &shape {
            for child in children {
                let part = &self.outline.parts[child.part];
                size = size.saturating_add(part.size);
                depth = depth.max(part.depth);
            }
            depth += 1;
        }
        if size > MOST_PARTS {
            return Err(Refused::new(
                Some(line),
                format!("unfolds to more than {MOST_PARTS} values"),
            ));
        }
        if depth > DEEPEST {
            return Err(too_deep(line));
        }
        let part = self.outline.parts.len();
        self.outline.parts.push(Part { shape, size, depth });
        if anchor > 0 {
            self.anchors.insert(anchor, part);
        }
        self.place(Child { part, line })
    }

    fn place(&mut self, child: Child) -> Result<(), Refused> {
        if let Some(open) = self.open.last_mut() {
            open.children.push(child);
        } else if self.outline.root.is_none() {
            self.outline.root = Some(child);
        } else {
            return Err(Refused::new(Some(child.line), "is not YAML: two roots"));
        }
        Ok(())
    }
}

fn too_deep(line: u64) -> Refused {
    Refused::new(
        Some(line),
        format!("is nested more than {DEEPEST} levels deep"),
    )
}
