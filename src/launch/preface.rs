//! What is said before the stack starts: warnings, ports, what was found of an earlier run. It is text by the time it
//! comes here; what a later step must know of it stands beside the text.

/// The lines, in their order.
#[derive(Debug, Default)]
pub struct Preface {
    lines: Vec<String>,
    out_of_reach: Vec<String>,
}

impl Preface {
    /// Says a line.
    pub fn push(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Says these lines.
    pub fn extend(&mut self, lines: impl IntoIterator<Item = String>) {
        self.lines.extend(lines);
    }

    /// Warns that commands will not find the stack by its record, or by its socket. `consequence`: what that means for
    /// a stack that runs all the same.
    pub fn warn_out_of_reach(&mut self, why: String, consequence: Option<&str>) {
        let consequence = consequence.map_or(String::new(), |text| format!("; {text}"));
        self.lines.push(format!("warning: {why}{consequence}"));
        self.out_of_reach.push(why);
    }

    /// All of it.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All of it.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// Why commands will not find the stack.
    pub fn out_of_reach(&self) -> &[String] {
        &self.out_of_reach
    }
}
