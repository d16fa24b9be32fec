//! Where messages come from: lines typed on a terminal or read from a pipe, put together to messages.

use crate::error::CommandError;
use crate::interrupt::{self, Wish};
use apr_report::ExitCode;
use rustyline::config::{Behavior, Config};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

/// What came from the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A message or a command, never blank.
    Message(String),
    /// Ctrl-C at the prompt; what was typed of a message is forgotten.
    Interrupted,
    /// The end: Ctrl-D, or the end of the pipe.
    End,
}

#[derive(Debug)]
enum Line {
    Text(String),
    Interrupted,
    End,
}

/// A terminal or a pipe.
pub(super) enum Input {
    Terminal { editor: Box<rustyline::Editor<(), FileHistory>>, history: Option<PathBuf> },
    Pipe,
}

const PROMPT: &str = "> ";
const MORE: &str = ". ";
const FENCE: &str = "\"\"\"";

impl Input {
    /// A line editor where standard input is a terminal. It talks to the terminal itself: nothing of it is on stdout.
    pub(super) fn new(with_history: bool) -> Result<Self, CommandError> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        let failed = |e: ReadlineError| CommandError::new(ExitCode::Io, format!("the terminal: {e}"));
        let config = Config::builder().behavior(Behavior::PreferTerm).history_ignore_space(true);
        let config = config.max_history_size(1000).map_err(failed)?.build();
        let history = FileHistory::with_config(&config);
        let mut editor = rustyline::Editor::<(), _>::with_history(config, history).map_err(failed)?;
        let history = history_path().filter(|_| with_history);
        if let Some(path) = &history {
            let there = path.parent().is_some_and(|dir| std::fs::create_dir_all(dir).is_ok());
            if !there {
                eprintln!("note: {}: its directory can't be made; lines are not remembered", path.display());
            } else if path.exists()
                && let Err(e) = editor.load_history(path)
            {
                eprintln!("note: {}: {e}; starting without a history", path.display());
            }
        }
        Ok(Input::Terminal { editor: Box::new(editor), history })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal { .. })
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Result<Event, CommandError> {
        message(|prompt| self.line(prompt))
    }

    fn line(&mut self, prompt: &str) -> Result<Line, CommandError> {
        match self {
            Input::Terminal { editor, history } => {
                match interrupt::ending_at_once(Wish::End, || editor.readline(prompt)) {
                    Ok(line) => {
                        let remembered = editor.add_history_entry(line.as_str()).and_then(|is_new| match history {
                            Some(path) if is_new => editor.append_history(path),
                            _ => Ok(()),
                        });
                        if let Err(e) = remembered {
                            eprintln!("note: the history can't be written: {e}");
                            *history = None;
                        }
                        Ok(Line::Text(line))
                    }
                    Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                    Err(ReadlineError::Eof) => Ok(Line::End),
                    Err(e) => Err(CommandError::new(ExitCode::Io, format!("the terminal: {e}"))),
                }
            }
            Input::Pipe => {
                let mut line = Vec::new();
                let read =
                    interrupt::ending_at_once(Wish::Stop, || std::io::stdin().lock().read_until(b'\n', &mut line));
                let failed =
                    |e: &dyn std::fmt::Display| CommandError::new(ExitCode::Io, format!("standard input: {e}"));
                if read.map_err(|e| failed(&e))? == 0 {
                    return Ok(Line::End);
                }
                let mut line = String::from_utf8(line).map_err(|e| failed(&format!("{e}, expected UTF-8 text")))?;
                if line.ends_with('\n') {
                    line.pop();
                }
                if line.ends_with('\r') {
                    line.pop();
                }
                Ok(Line::Text(line))
            }
        }
    }
}

/// Puts lines together: a backslash at the end of a line continues the message, three quotes at its beginning begin a
/// block that three quotes at the end of a line end. Blank messages are passed over.
fn message(mut next: impl FnMut(&str) -> Result<Line, CommandError>) -> Result<Event, CommandError> {
    loop {
        let first = match next(PROMPT)? {
            Line::Text(line) => line,
            Line::Interrupted => return Ok(Event::Interrupted),
            Line::End => return Ok(Event::End),
        };
        let mut text = String::new();
        let (mut line, in_block) = match first.trim_start().strip_prefix(FENCE) {
            Some(rest) => (rest.to_owned(), true),
            None => (first, false),
        };
        let complete = loop {
            let end = line.trim_end();
            let (part, more) = if in_block {
                end.strip_suffix(FENCE).map_or((line.as_str(), true), |part| (part, false))
            } else {
                end.strip_suffix('\\').map_or((line.as_str(), false), |part| (part, true))
            };
            text.push_str(part);
            if !more {
                break true;
            }
            // The line that only opens a block is not part of it.
            if !(in_block && text.is_empty()) {
                text.push('\n');
            }
            line = match next(MORE)? {
                Line::Text(line) => line,
                Line::Interrupted => return Ok(Event::Interrupted),
                Line::End => break false,
            };
        };
        if !complete {
            let what = if in_block { "a block of \"\"\"" } else { "a line that a backslash continues" };
            return Err(CommandError::new(ExitCode::Usage, format!("the input ends inside {what}")));
        }
        if in_block && text.ends_with('\n') {
            text.pop();
        }
        if !text.trim().is_empty() {
            return Ok(Event::Message(text));
        }
    }
}

/// `$XDG_STATE_HOME/apr/chat_history`, by default below `~/.local/state`.
fn history_path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("apr/chat_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(lines: &[&str]) -> Vec<String> {
        let mut lines = lines.iter();
        let mut found = Vec::new();
        loop {
            let event = message(|_| Ok(lines.next().map_or(Line::End, |line| Line::Text((*line).to_owned()))));
            match event {
                Ok(Event::Message(text)) => found.push(text),
                Ok(_) => return found,
                Err(e) => {
                    found.push(format!("error: {}", e.message));
                    return found;
                }
            }
        }
    }

    #[test]
    fn lines_become_messages() {
        let check = |lines: &[&str], expected: &[&str]| assert_eq!(messages(lines), expected, "{lines:?}");
        check(&["a", "", "  ", "b "], &["a", "b "]);
        check(&["a\\", "b\\", "c", "d"], &["a\nb\nc", "d"]);
        check(&["\"\"\"", "a", "", "b", "\"\"\"", "c"], &["a\n\nb", "c"]);
        check(&["\"\"\"a", "b\"\"\"", "c"], &["a\nb", "c"]);
        check(&["\"\"\"a\"\"\""], &["a"]);
        check(&["\"\"\"", "  indented\\", "\"\"\""], &["  indented\\"]);
        check(&["a\"\"\"b"], &["a\"\"\"b"]);
        check(&["\"\"\"", "\"\"\"", "x"], &["x"]);
        check(&["a", "\"\"\"", "b"], &["a", "error: the input ends inside a block of \"\"\""]);
        check(&["a\\"], &["error: the input ends inside a line that a backslash continues"]);
    }

    #[test]
    fn an_interrupt_drops_the_message() {
        let mut lines = [Line::Text("half\\".to_owned()), Line::Interrupted, Line::End].into_iter();
        let mut next = || message(|_| Ok(lines.next().unwrap())).map_err(|e| e.message);
        assert_eq!(next(), Ok(Event::Interrupted));
        assert_eq!(next(), Ok(Event::End));
    }
}
