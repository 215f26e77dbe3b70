//! Text from outside made fit for a log line, a label, a page and a message.
//!
//! Pure. Knows nothing of secrets: what a server may quote is redacted elsewhere.

/// One line on which every character is visible where it stands: control characters become spaces; what
/// reorders or breaks a line, or does not show at all, is left out.
pub(crate) fn one_line(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !is_invisible(*c)).map(|c| if c.is_control() { ' ' } else { c })
}

/// Unicode's format characters (Cf), line and paragraph separators, and default-ignorable code points.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_reorders_is_left_out() {
        for (text, expected) in [
            ("plain, äß 漢字 🦀", "plain, äß 漢字 🦀"),
            ("a\nb\tc\0d\u{85}e\u{7f}f", "a b c d e f"),
            ("abc\u{202e}fed\u{202c}", "abcfed"),
            ("a\u{2028}b\u{2029}c", "abc"),
            ("zero\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}width", "zerowidth"),
            ("\u{2066}isolate\u{2069}\u{61c}\u{200e}\u{200f}", "isolate"),
            ("soft\u{ad}hyphen\u{fe0f}\u{e0041}", "softhyphen"),
        ] {
            assert_eq!(one_line(text).collect::<String>(), expected, "{text:?}");
        }
    }
}
