//! Content items of a structured report (PS3.3 C.17.3) and the tree that they form.

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::value::DataSetSequence;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use crate::domain::code::Code;
use crate::sr::text;

/// What an item is to its parent (PS3.3 C.17.3.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relationship {
    Contains,
    HasObsContext,
    HasConceptMod,
    HasAcqContext,
    SelectedFrom,
    InferredFrom,
}

impl Relationship {
    fn as_str(self) -> &'static str {
        match self {
            Relationship::Contains => "CONTAINS",
            Relationship::HasObsContext => "HAS OBS CONTEXT",
            Relationship::HasConceptMod => "HAS CONCEPT MOD",
            Relationship::HasAcqContext => "HAS ACQ CONTEXT",
            Relationship::SelectedFrom => "SELECTED FROM",
            Relationship::InferredFrom => "INFERRED FROM",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Continuity SEPARATE: viewers run the text of CONTINUOUS ones together. With its template (DCMR).
    Container {
        template: Option<&'static str>,
    },
    Code(Code),
    Text(String),
    Num {
        value: f64,
        unit: Code,
    },
    UidRef(String),
    Image(SourceImage),
    /// Closed when first and last point are equal. Column and row, origin at the top-left corner
    /// of the top-left pixel.
    Polyline(Vec<[f32; 2]>),
}

/// The object an IMAGE item names; the frame where it has several.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceImage {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub frame: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Only an IMAGE of a key object selection has none (TID 2010).
    pub name: Option<Code>,
    pub value: Value,
    pub children: Vec<(Relationship, Item)>,
}

impl Item {
    pub fn new(name: impl Into<Option<Code>>, value: Value) -> Item {
        Item { name: name.into(), value, children: Vec::new() }
    }

    pub fn container(name: Code) -> Item {
        Item::new(name, Value::Container { template: None })
    }

    pub fn template(name: Code, template: &'static str) -> Item {
        Item::new(name, Value::Container { template: Some(template) })
    }

    pub fn code(name: Code, value: Code) -> Item {
        Item::new(name, Value::Code(value))
    }

    pub fn text(name: Code, value: impl Into<String>) -> Item {
        Item::new(name, Value::Text(value.into()))
    }

    pub fn num(name: Code, value: f64, unit: Code) -> Item {
        Item::new(name, Value::Num { value, unit })
    }

    pub fn uid(name: Code, value: &str) -> Item {
        Item::new(name, Value::UidRef(value.to_owned()))
    }

    pub fn image(name: Code, image: SourceImage) -> Item {
        Item::new(name, Value::Image(image))
    }

    /// The item with one more child, last.
    pub fn with(mut self, relationship: Relationship, child: Item) -> Item {
        self.children.push((relationship, child));
        self
    }

    pub fn contains(self, child: Item) -> Item {
        self.with(Relationship::Contains, child)
    }

    pub fn contains_all(self, children: impl IntoIterator<Item = Item>) -> Item {
        children.into_iter().fold(self, Item::contains)
    }

    /// The item and all below it, parents first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Item)) {
        visit(self);
        self.children.iter().for_each(|(_, child)| child.walk(visit));
    }

    /// Puts the attributes of this item and its subtree into `object`: the document itself for
    /// the root, else an item of its parent's Content Sequence.
    pub fn put_into(&self, object: &mut InMemDicomObject) {
        object.put_str(tags::VALUE_TYPE, VR::CS, self.value.value_type());
        if let Some(name) = &self.name {
            object.put(sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(name)]));
        }
        self.value.put_into(object);
        if self.children.is_empty() {
            return;
        }
        let children = self.children.iter().map(|(relationship, child)| {
            let mut item = InMemDicomObject::new_empty();
            item.put_str(tags::RELATIONSHIP_TYPE, VR::CS, relationship.as_str());
            child.put_into(&mut item);
            item
        });
        object.put(sequence(tags::CONTENT_SEQUENCE, children.collect()));
    }
}

impl Value {
    fn value_type(&self) -> &'static str {
        match self {
            Value::Container { .. } => "CONTAINER",
            Value::Code(_) => "CODE",
            Value::Text(_) => "TEXT",
            Value::Num { .. } => "NUM",
            Value::UidRef(_) => "UIDREF",
            Value::Image(_) => "IMAGE",
            Value::Polyline(_) => "SCOORD",
        }
    }

    fn put_into(&self, object: &mut InMemDicomObject) {
        match self {
            Value::Container { template } => {
                object.put_str(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
                if let Some(id) = template {
                    object.put(sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![dcmr(id)]));
                }
            }
            Value::Code(value) => {
                object.put(sequence(tags::CONCEPT_CODE_SEQUENCE, vec![code(value)]));
            }
            Value::Text(value) => {
                object.put_str(tags::TEXT_VALUE, VR::UT, text::long(value, 16_000));
            }
            Value::Num { value, unit } => {
                let mut measured = InMemDicomObject::new_empty();
                measured.put_str(tags::NUMERIC_VALUE, VR::DS, text::decimal(*value));
                measured.put(sequence(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code(unit)]));
                object.put(sequence(tags::MEASURED_VALUE_SEQUENCE, vec![measured]));
            }
            Value::UidRef(uid) => {
                object.put_str(tags::UID, VR::UI, uid.as_str());
            }
            Value::Image(image) => {
                object.put(sequence(tags::REFERENCED_SOP_SEQUENCE, vec![image.reference()]));
            }
            Value::Polyline(points) => {
                object.put_str(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
                let data = PrimitiveValue::F32(points.iter().flatten().copied().collect());
                object.put(DataElement::new(tags::GRAPHIC_DATA, VR::FL, data));
            }
        }
    }
}

impl SourceImage {
    pub fn reference(&self) -> InMemDicomObject {
        let mut item = reference(&self.sop_class_uid, &self.sop_instance_uid);
        if let Some(frame) = self.frame {
            item.put_str(tags::REFERENCED_FRAME_NUMBER, VR::IS, frame.to_string());
        }
        item
    }
}

/// A SOP Instance Reference (PS3.3 table 10-11).
pub fn reference(sop_class_uid: &str, sop_instance_uid: &str) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::REFERENCED_SOP_CLASS_UID, VR::UI, sop_class_uid);
    item.put_str(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, sop_instance_uid);
    item
}

/// A Code Sequence item (PS3.3 8.8). A value longer than SH's 16 characters stands in Long Code Value.
pub fn code(code: &Code) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    let value = text::lo(&code.value, "unknown");
    match value.chars().count() <= 16 {
        true => item.put_str(tags::CODE_VALUE, VR::SH, value),
        false => item.put_str(tags::LONG_CODE_VALUE, VR::UC, value),
    };
    item.put_str(tags::CODING_SCHEME_DESIGNATOR, VR::SH, text::sh(&code.scheme, "99PRELIM"));
    item.put_str(tags::CODE_MEANING, VR::LO, text::lo(&code.meaning, &code.value));
    item
}

pub fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
}

fn dcmr(template: &str) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    item.put_str(tags::TEMPLATE_IDENTIFIER, VR::CS, template);
    item
}
