use super::*;

fn short(tag: Tag, vr: &str, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_le_bytes();
    [&tag.0.to_le_bytes(), &tag.1.to_le_bytes(), vr.as_bytes(), &length, value].concat()
}

fn long(tag: Tag, vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
    let head = [&tag.0.to_le_bytes()[..], &tag.1.to_le_bytes(), vr.as_bytes(), &[0, 0]].concat();
    [head, length.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn sequence(tag: Tag, content: &[u8]) -> Vec<u8> {
    long(tag, "SQ", content.len() as u32, content)
}

fn implicit(tag: Tag, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u32).to_le_bytes();
    [&tag.0.to_le_bytes()[..], &tag.1.to_le_bytes(), &length, value].concat()
}

fn item(content: &[u8]) -> Vec<u8> {
    implicit(ITEM, content)
}

fn open(tag: Tag) -> Vec<u8> {
    [&tag.0.to_le_bytes()[..], &tag.1.to_le_bytes(), &UNDEFINED.to_le_bytes()].concat()
}

fn end(tag: Tag) -> Vec<u8> {
    implicit(tag, &[])
}

/// What the walk meets, in short: tags, `(` and `)` around what is open, `[` before an item.
fn met(bytes: &[u8], encoding: Encoding) -> (String, String) {
    let mut walk = Walk::new(bytes, 0, encoding, 8);
    let mut out = String::new();
    loop {
        match walk.next() {
            Ok(None) => break,
            Ok(Some(Event::Value(place))) => out += &format!("{:04X} ", place.tag.1),
            Ok(Some(Event::Open(place))) => out += &format!("{:04X}( ", place.tag.1),
            Ok(Some(Event::Item { .. })) => out += "[ ",
            Ok(Some(Event::Fragment)) => out += "f ",
            Ok(Some(Event::Close { .. })) => out += ") ",
            Ok(Some(Event::Pixels(_))) => out += "pixels ",
            Err(error) => {
                out += &format!("! {error:?}");
                break;
            }
        }
    }
    let odd = walk.odd().map(|odd| format!("{odd:?}")).unwrap_or_default();
    let name = |text: &str| text.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
    (out.trim_end().to_owned(), name(&odd))
}

/// Odd data as devices, routers and archives write it: every element but the odd one is met, and
/// the oddity is noted.
#[test]
fn damage_costs_the_element_that_it_stands_in() {
    let code = short(tags::CODE_VALUE, "SH", b"T1");
    let after = short(tags::PATIENT_ID, "LO", b"P1");
    let private = Tag(0x0009, 0x1001);
    let with = |odd: Vec<u8>| [odd, after.clone()].concat();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (
            "whole",
            with(sequence(tags::PROCEDURE_CODE_SEQUENCE, &item(&code))),
            "1032( [ 0100 ) ) 0020",
            "",
        ),
        (
            "a delimiter inside a defined length",
            with(sequence(
                tags::PROCEDURE_CODE_SEQUENCE,
                &[item(&code), end(SEQUENCE_END)].concat(),
            )),
            "1032( [ 0100 ) ) 0020",
            "Misplaced",
        ),
        (
            "a delimiter behind a defined length",
            with(
                [sequence(tags::PROCEDURE_CODE_SEQUENCE, &item(&code)), end(SEQUENCE_END)].concat(),
            ),
            "1032( [ 0100 ) ) 0020",
            "Misplaced",
        ),
        (
            "an item's delimiter inside its length",
            with(sequence(
                tags::PROCEDURE_CODE_SEQUENCE,
                &item(&[code.clone(), end(ITEM_END)].concat()),
            )),
            "1032( [ 0100 ) ) 0020",
            "Misplaced",
        ),
        (
            "a sequence of undefined length without its delimiter",
            with(long(tags::PROCEDURE_CODE_SEQUENCE, "SQ", UNDEFINED, &item(&code))),
            "1032( [ 0100 ) ) 0020",
            "Unclosed",
        ),
        (
            "an item of undefined length without its delimiter",
            with(long(
                tags::PROCEDURE_CODE_SEQUENCE,
                "SQ",
                UNDEFINED,
                &[open(ITEM), code.clone(), end(SEQUENCE_END)].concat(),
            )),
            "1032( [ 0100 ) ) 0020",
            "Misplaced",
        ),
        (
            "a VR that is none, long form",
            with(long(private, "??", 4, b"abcd")),
            "1001 0020",
            "BadVr",
        ),
        (
            "a VR that is none, short form",
            with(short(private, "\x01\x02", b"abcd")),
            "1001 0020",
            "BadVr",
        ),
        ("an implicit element", with(implicit(private, b"abcd")), "1001 0020", "BadVr"),
        (
            "implicit items in an explicit sequence",
            with(sequence(private, &item(&implicit(tags::CODE_VALUE, b"T1")))),
            "1001( [ 0100 ) ) 0020",
            "BadVr",
        ),
        (
            "rubbish in a sequence of defined length",
            with(sequence(private, b"this is no item at all")),
            "1001( ) 0020",
            "Misplaced",
        ),
        (
            "rubbish in a sequence of undefined length",
            with(long(
                private,
                "SQ",
                UNDEFINED,
                &[b"rubbish!".to_vec(), end(SEQUENCE_END)].concat(),
            )),
            "1001( ) 0020",
            "Misplaced",
        ),
        (
            "a value longer than its item",
            with(sequence(tags::PROCEDURE_CODE_SEQUENCE, &item(&code[..9]))),
            "1032( [ ) ) 0020",
            "TooLong",
        ),
        (
            "explicit items in UN",
            with(long(private, "UN", UNDEFINED, &[item(&code), end(SEQUENCE_END)].concat())),
            "1001( [ 0100 ) ) 0020",
            "",
        ),
        (
            "bytes behind the last element",
            [after.clone(), vec![0, 0, 0]].concat(),
            "0020",
            "Truncated",
        ),
        (
            "fragments without their delimiter",
            long(tags::PIXEL_DATA, "OB", UNDEFINED, &[item(b""), item(b"abcd")].concat()),
            "0010( f f )",
            "Unclosed",
        ),
    ];
    for (name, bytes, expected, odd) in cases {
        let found = met(&bytes, EXPLICIT);
        assert_eq!((found.0.as_str(), found.1.as_str()), (expected, odd), "{name}");
    }
}

/// PS3.5 6.2.2: what a router did not know and passed on as UN is Implicit VR Little Endian.
#[test]
fn un_is_implicit_whatever_its_length() {
    let inside = item(&implicit(tags::CODE_VALUE, b"T1"));
    let undefined = [inside.clone(), end(SEQUENCE_END)].concat();
    for (length, content) in [(inside.len() as u32, &inside), (UNDEFINED, &undefined)] {
        let bytes = long(tags::PROCEDURE_CODE_SEQUENCE, "UN", length, content);
        assert_eq!(met(&bytes, EXPLICIT), ("1032( [ 0100 ) )".into(), String::new()));
    }
    // What the dictionary does not know stays a value.
    let private = long(Tag(0x0029, 0x1010), "UN", inside.len() as u32, &inside);
    assert_eq!(met(&private, EXPLICIT).0, "1010");
}

/// Nothing that ends too early or too deep is guessed at.
#[test]
fn what_nothing_bounds_ends_the_walk() {
    let nothing = long(tags::PROCEDURE_CODE_SEQUENCE, "SQ", UNDEFINED, &[]);
    let deep = long(tags::PROCEDURE_CODE_SEQUENCE, "SQ", UNDEFINED, &open(ITEM)).repeat(100);
    let cut = long(Tag(0x0029, 0x1010), "OB", 100, b"abcd");
    for (bytes, expected) in [(nothing, "Unclosed"), (deep, "TooDeep"), (cut, "TooLong")] {
        let found = met(&bytes, EXPLICIT).0;
        assert!(found.contains(&format!("! {expected}")), "{found}");
    }
}
