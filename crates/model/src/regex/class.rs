//! Character classes by name: Perl's, POSIX' and Unicode's, as Go knows them.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange, HirKind};

/// A class of code points, surrogates left out: no text of ours holds one.
pub(super) fn from_code_points(ranges: &[(u32, u32)]) -> ClassUnicode {
    const SURROGATES: std::ops::RangeInclusive<u32> = 0xd800..=0xdfff;
    let mut kept = Vec::with_capacity(ranges.len());
    for &(first, last) in ranges {
        let low = if SURROGATES.contains(&first) { 0xe000 } else { first };
        let high = if SURROGATES.contains(&last) { 0xd7ff } else { last };
        if let (true, Some(low), Some(high)) =
            (low <= high, char::from_u32(low), char::from_u32(high))
        {
            kept.push(ClassUnicodeRange::new(low, high));
        }
    }
    joined(ClassUnicode::new(kept))
}

/// The class with ranges joined that have nothing but surrogates between them.
///
/// `regex-syntax` keeps such ranges apart, and its negation then finds characters in the gap.
fn joined(class: ClassUnicode) -> ClassUnicode {
    let ranges = class.ranges();
    let split = ranges
        .windows(2)
        .position(|two| (two[0].end(), two[1].start()) == ('\u{d7ff}', '\u{e000}'));
    let Some(at) = split else { return class };
    let whole = ClassUnicodeRange::new(ranges[at].start(), ranges[at + 1].end());
    let (before, after) = (&ranges[..at], &ranges[at + 2..]);
    ClassUnicode::new(before.iter().copied().chain([whole]).chain(after.iter().copied()))
}

/// Every character.
pub(super) fn any() -> ClassUnicode {
    from_code_points(&[(0, 0x10ffff)])
}

/// The class and, with `fold`, everything that differs from its members only by case.
pub(super) fn folded(mut class: ClassUnicode, fold: bool) -> ClassUnicode {
    if fold {
        class.case_fold_simple();
    }
    class
}

/// Everything but the class.
pub(super) fn negated(class: ClassUnicode, negate: bool) -> ClassUnicode {
    let mut class = joined(class);
    if negate {
        class.negate();
    }
    class
}

/// The class of `\d`, `\s`, `\w` by their small letter; ASCII only, as in Go.
pub(super) fn perl(letter: u8) -> Option<ClassUnicode> {
    Some(from_code_points(match letter {
        b'd' => &[(0x30, 0x39)],
        b's' => &[(0x09, 0x0a), (0x0c, 0x0d), (0x20, 0x20)],
        b'w' => &[(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)],
        _ => return None,
    }))
}

/// The class of `[:name:]`.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    Some(from_code_points(match name {
        "alnum" => &[(0x30, 0x39), (0x41, 0x5a), (0x61, 0x7a)],
        "alpha" => &[(0x41, 0x5a), (0x61, 0x7a)],
        "ascii" => &[(0x00, 0x7f)],
        "blank" => &[(0x09, 0x09), (0x20, 0x20)],
        "cntrl" => &[(0x00, 0x1f), (0x7f, 0x7f)],
        "digit" => &[(0x30, 0x39)],
        "graph" => &[(0x21, 0x7e)],
        "lower" => &[(0x61, 0x7a)],
        "print" => &[(0x20, 0x7e)],
        "punct" => &[(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e)],
        "space" => &[(0x09, 0x0d), (0x20, 0x20)],
        "upper" => &[(0x41, 0x5a)],
        "word" => return perl(b'w'),
        "xdigit" => &[(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)],
        _ => return None,
    }))
}

/// The class of `\p{name}`; names are case-sensitive and have one spelling each.
pub(super) fn unicode(name: &str) -> Option<ClassUnicode> {
    match name {
        "Any" => Some(any()),
        "Cs" => Some(ClassUnicode::empty()),
        "LC" => {
            let mut cased = property("gc=Lu")?;
            cased.union(&property("gc=Ll")?);
            cased.union(&property("gc=Lt")?);
            Some(cased)
        }
        _ if CATEGORIES.contains(&name) => property(&format!("gc={name}")),
        _ if SCRIPTS.binary_search(&name).is_ok() => property(&format!("sc={name}")),
        _ => None,
    }
}

fn property(query: &str) -> Option<ClassUnicode> {
    let hir = regex_syntax::parse(&format!(r"[\p{{{query}}}]")).ok()?;
    match hir.into_kind() {
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => Some(class),
        HirKind::Literal(literal) => {
            let only = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(ClassUnicode::new([ClassUnicodeRange::new(only, only)]))
        }
        _ => None,
    }
}

/// General categories beside `Any`, `Cs` and `LC`.
#[rustfmt::skip]
pub(super) const CATEGORIES: [&str; 36] = [
    "C", "Cc", "Cf", "Cn", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N",
    "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So",
    "Z", "Zl", "Zp", "Zs",
];

/// Scripts of Unicode 15.0, which is what Go's tables hold, sorted.
#[rustfmt::skip]
pub(super) const SCRIPTS: [&str; 163] = [
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum",
    "Bassa_Vah", "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese",
    "Buhid", "Canadian_Aboriginal", "Carian", "Caucasian_Albanian", "Chakma", "Cham", "Cherokee",
    "Chorasmian", "Common", "Coptic", "Cuneiform", "Cypriot", "Cypro_Minoan", "Cyrillic",
    "Deseret", "Devanagari", "Dives_Akuru", "Dogra", "Duployan", "Egyptian_Hieroglyphs", "Elbasan",
    "Elymaic", "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Grantha", "Greek", "Gujarati",
    "Gunjala_Gondi", "Gurmukhi", "Han", "Hangul", "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew",
    "Hiragana", "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian",
    "Javanese", "Kaithi", "Kannada", "Katakana", "Kawi", "Kayah_Li", "Kharoshthi",
    "Khitan_Small_Script", "Khmer", "Khojki", "Khudawadi", "Lao", "Latin", "Lepcha", "Limbu",
    "Linear_A", "Linear_B", "Lisu", "Lycian", "Lydian", "Mahajani", "Makasar", "Malayalam",
    "Mandaic", "Manichaean", "Marchen", "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek",
    "Mende_Kikakui", "Meroitic_Cursive", "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian",
    "Mro", "Multani", "Myanmar", "Nabataean", "Nag_Mundari", "Nandinagari", "New_Tai_Lue", "Newa",
    "Nko", "Nushu", "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki", "Old_Hungarian", "Old_Italic",
    "Old_North_Arabian", "Old_Permic", "Old_Persian", "Old_Sogdian", "Old_South_Arabian",
    "Old_Turkic", "Old_Uyghur", "Oriya", "Osage", "Osmanya", "Pahawh_Hmong", "Palmyrene",
    "Pau_Cin_Hau", "Phags_Pa", "Phoenician", "Psalter_Pahlavi", "Rejang", "Runic", "Samaritan",
    "Saurashtra", "Sharada", "Shavian", "Siddham", "SignWriting", "Sinhala", "Sogdian",
    "Sora_Sompeng", "Soyombo", "Sundanese", "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa",
    "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil", "Tangsa", "Tangut", "Telugu", "Thaana",
    "Thai", "Tibetan", "Tifinagh", "Tirhuta", "Toto", "Ugaritic", "Vai", "Vithkuqi", "Wancho",
    "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square",
];
