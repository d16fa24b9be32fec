//! The arithmetic oracle: the expected number follows from the question.

/// A question with one right answer, a whole number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The expression as it was understood (`7 * 8`).
    pub expression: String,
    /// Its value.
    pub expected: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lexeme {
    /// A whole number.
    Number(i64),
    /// A number that is not whole, or too long to be one.
    Other,
    Op(Op),
    /// Anything that ends an expression.
    Break,
}

/// Words that stand for an operator when they are between two numbers.
const WORDS: &[(&str, Op)] = &[
    ("plus", Op::Add),
    ("minus", Op::Subtract),
    ("times", Op::Multiply),
    ("x", Op::Multiply),
    ("multiplied by", Op::Multiply),
    ("divided by", Op::Divide),
    ("over", Op::Divide),
];

const SYMBOLS: &[(char, Op)] = &[
    ('+', Op::Add),
    ('-', Op::Subtract),
    ('−', Op::Subtract),
    ('–', Op::Subtract),
    ('*', Op::Multiply),
    ('×', Op::Multiply),
    ('·', Op::Multiply),
    ('/', Op::Divide),
    ('÷', Op::Divide),
];

/// Orders of the form "add 3 and 4", "subtract 7 from 15": opening word, separator, operator, swapped operands.
const ORDERS: &[(&str, &str, Op, bool)] = &[
    ("sum of", "and", Op::Add, false),
    ("product of", "and", Op::Multiply, false),
    ("difference of", "and", Op::Subtract, false),
    ("add", "and", Op::Add, false),
    ("add", "to", Op::Add, true),
    ("subtract", "from", Op::Subtract, true),
    ("multiply", "by", Op::Multiply, false),
    ("multiply", "and", Op::Multiply, false),
    ("divide", "by", Op::Divide, false),
];

/// The question that a prompt asks, or why the oracle can't tell.
///
/// ```
/// let question = apr_qa::oracles::question("What is 7 times 8?").unwrap();
/// assert_eq!((question.expression.as_str(), question.expected), ("7 * 8", 56));
/// ```
pub fn question(prompt: &str) -> Result<Question, String> {
    let rewritten = ORDERS.iter().find_map(|order| rewrite_order(prompt, order));
    let lexemes = lex(rewritten.as_deref().unwrap_or(prompt));
    let expressions = expressions(&lexemes);
    match expressions.as_slice() {
        [] => Err("no expression of whole numbers found".to_owned()),
        [range] => evaluate(&lexemes[range.clone()]),
        several => Err(format!("{} expressions found, one is needed", several.len())),
    }
}

/// Whether `answer` names `expected` as a whole number, apart from any repetition of the question.
pub fn answers(answer: &str, expected: i64) -> bool {
    let lexemes = lex(answer);
    let asked = expressions(&lexemes);
    let mut index = 0;
    while index < lexemes.len() {
        if let Some(range) = asked.iter().find(|range| range.contains(&index)) {
            index = range.end;
            continue;
        }
        // A sign belongs to a number unless a number stands before it, and then it was part of an expression.
        let negated = index > 0 && lexemes[index - 1] == Lexeme::Op(Op::Subtract);
        if let Lexeme::Number(n) = lexemes[index]
            && (if negated { -n } else { n }) == expected
        {
            return true;
        }
        index += 1;
    }
    false
}

fn rewrite_order(prompt: &str, &(open, separator, op, swapped): &(&str, &str, Op, bool)) -> Option<String> {
    let lower = prompt.to_lowercase();
    let rest = &lower[find_word(&lower, open)? + open.len()..];
    let middle = find_word(rest, separator)?;
    let left = rest[..middle].trim();
    let right = rest[middle + separator.len()..].trim();
    let right = right.split(|c: char| !c.is_ascii_digit() && c != '-').next()?;
    let number = |s: &str| s.parse::<i64>().is_ok();
    if !(number(left) && number(right)) {
        return None;
    }
    let symbol = SYMBOLS.iter().find(|(_, o)| *o == op)?.0;
    Some(if swapped { format!("{right} {symbol} {left}") } else { format!("{left} {symbol} {right}") })
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn lex(text: &str) -> Vec<Lexeme> {
    let lower = text.to_lowercase();
    let mut lexemes = Vec::new();
    let mut rest = lower.as_str();
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == ',')).unwrap_or(rest.len());
            // "4." and "4," end a sentence or a clause; "4.5" is one number; "1,000" is a thousand.
            let word = rest[..end].trim_end_matches(['.', ',']);
            // "7x8" is three lexemes although no space separates them.
            match word.split_once('x') {
                Some((a, b)) if number(a).is_some() && number(b).is_some() => {
                    lexemes.extend(
                        [a, b]
                            .iter()
                            .flat_map(|n| [number(n).map(Lexeme::Number), Some(Lexeme::Op(Op::Multiply))])
                            .flatten(),
                    );
                    lexemes.pop();
                }
                _ => lexemes.push(number(word).map_or(Lexeme::Other, Lexeme::Number)),
            }
            rest = &rest[word.len().max(1)..];
        } else if c.is_alphabetic() {
            let word = WORDS.iter().find(|(word, _)| {
                rest.strip_prefix(word).is_some_and(|after| !after.chars().next().is_some_and(char::is_alphanumeric))
            });
            match word {
                Some((word, op)) => {
                    lexemes.push(Lexeme::Op(*op));
                    rest = &rest[word.len()..];
                }
                None => {
                    lexemes.push(Lexeme::Break);
                    let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
                    rest = &rest[end..];
                }
            }
        } else {
            match SYMBOLS.iter().find(|(symbol, _)| *symbol == c) {
                Some((_, op)) => lexemes.push(Lexeme::Op(*op)),
                None if c.is_whitespace() => {}
                None => lexemes.push(Lexeme::Break),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    lexemes
}

fn number(word: &str) -> Option<i64> {
    let groups: Vec<&str> = word.split(',').collect();
    let grouped = groups.len() == 1 || groups[1..].iter().all(|group| group.len() == 3);
    (grouped && !word.is_empty()).then(|| word.replace(',', "").parse().ok()).flatten()
}

/// Ranges of `number (op number)+`, with a sign before the first number where nothing stands before it.
fn expressions(lexemes: &[Lexeme]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < lexemes.len() {
        let signed = lexemes[start] == Lexeme::Op(Op::Subtract);
        let first = start + usize::from(signed);
        let mut end = first;
        if matches!(lexemes.get(end), Some(Lexeme::Number(_))) {
            end += 1;
            while matches!(lexemes.get(end..end + 2), Some([Lexeme::Op(_), Lexeme::Number(_)])) {
                end += 2;
            }
        }
        if end > first + 1 {
            found.push(start..end);
            start = end;
        } else {
            start += 1;
        }
    }
    found
}

fn evaluate(lexemes: &[Lexeme]) -> Result<Question, String> {
    let signed = lexemes[0] == Lexeme::Op(Op::Subtract);
    let mut text = String::new();
    // Sum of products: `terms` are added up at the end, the last one still grows.
    let mut terms: Vec<i64> = Vec::new();
    let mut op = if signed { Op::Subtract } else { Op::Add };
    for lexeme in &lexemes[usize::from(signed)..] {
        match *lexeme {
            Lexeme::Op(next) => op = next,
            Lexeme::Number(n) => {
                let symbol = SYMBOLS.iter().find(|(_, o)| *o == op).map_or('?', |row| row.0);
                if text.is_empty() {
                    text = if signed { format!("-{n}") } else { n.to_string() };
                } else {
                    text.push_str(&format!(" {symbol} {n}"));
                }
                match op {
                    Op::Add => terms.push(n),
                    Op::Subtract => terms.push(-n),
                    Op::Multiply => {
                        let last = terms.pop().unwrap_or(0);
                        terms.push(last.checked_mul(n).ok_or_else(|| format!("{text} overflows"))?);
                    }
                    Op::Divide => {
                        let last = terms.pop().unwrap_or(0);
                        if n == 0 || last % n != 0 {
                            return Err(format!("{text} is not a whole number"));
                        }
                        terms.push(last / n);
                    }
                }
            }
            Lexeme::Other | Lexeme::Break => return Err(format!("{text} is followed by something else")),
        }
    }
    let expected = terms.iter().try_fold(0i64, |sum, &n| sum.checked_add(n));
    expected.map(|expected| Question { expression: text.clone(), expected }).ok_or_else(|| format!("{text} overflows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_number_follows_from_the_question() {
        for (prompt, expected) in [
            ("What is 2+2?", 4),
            ("2+2=", 4),
            ("What is 7 times 8?", 56),
            ("15-7", 8),
            ("15 − 7", 8),
            ("7 - 17", -10),
            ("-3 + 5", 2),
            ("2 + 3 * 4", 14),
            ("20 - 6 - 4", 10),
            ("18 / 3 * 2", 12),
            ("What is 144 divided by 12?", 12),
            ("7x8", 56),
            ("6 x 7 = ?", 42),
            ("Add 3 and 4.", 7),
            ("Subtract 7 from 15.", 8),
            ("Take the sum of 12 and 30, please", 42),
            ("Multiply 9 by 9", 81),
            ("what is 1,000 + 1?", 1001),
            ("Hello! What is 10 multiplied by 10?", 100),
        ] {
            assert_eq!(question(prompt).map(|q| q.expected), Ok(expected), "{prompt}");
        }
    }

    #[test]
    fn prompts_without_one_whole_answer_are_not_judged() {
        for prompt in [
            "What is the capital of France?",
            "",
            "4",
            "7/2",
            "1/0",
            "2+2 and 3+3",
            "2.5 + 2",
            "room 101",
            "add salt and 4",
        ] {
            assert!(question(prompt).is_err(), "{prompt}");
        }
    }

    #[test]
    fn an_answer_names_the_number_as_a_whole_and_beside_the_question() {
        for (answer, expected, right) in [
            ("4", 4, true),
            ("2 + 2 equals 4.", 4, true),
            ("2+2=4", 4, true),
            ("The answer is 4, of course.", 4, true),
            ("14", 4, false),
            ("40", 4, false),
            ("4.5", 4, false),
            ("-4", 4, false),
            ("7 - 17 equals -10.", -10, true),
            ("7 - 17 equals 10.", -10, false),
            ("8 - 4 equals 5.", 4, false),
            ("8 - 4 = 4", 4, true),
            ("1,001", 1001, true),
            ("", 4, false),
            ("four", 4, false),
            ("a4", 4, false),
        ] {
            assert_eq!(answers(answer, expected), right, "{answer:?} for {expected}");
        }
    }
}
