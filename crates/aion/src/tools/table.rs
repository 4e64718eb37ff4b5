//! Tables: for people, for spreadsheets, and as JSON for programs.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::text;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Aligned, between bars.
    Table,
    /// Values between tabs.
    Tsv,
    /// Values between commas.
    Csv,
    /// A list of objects.
    Json,
}

impl Format {
    /// The names of those that a tool has, for a flag.
    pub(super) fn parse(name: &str) -> Format {
        match name {
            "tsv" => Format::Tsv,
            "csv" => Format::Csv,
            "json" => Format::Json,
            _ => Format::Table,
        }
    }
}

/// A value of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Any text.
    Text(String),
    /// Milliseconds since the Unix epoch.
    Time(i64),
    /// Milliseconds, or nothing.
    Span(Option<i64>),
    /// How many.
    Count(u64),
    /// How many bytes.
    Bytes(u64),
    /// Yes or no.
    Flag(bool),
}

/// A column: its header for people, and its key for programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) header: &'static str,
    pub(super) key: &'static str,
}

/// Rows of values.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Time(time_ms) => text::time(*time_ms),
            Cell::Span(span_ms) => span_ms.map_or_else(|| "-".to_owned(), text::span),
            Cell::Count(count) => text::grouped(*count),
            Cell::Bytes(count) => text::bytes(*count),
            Cell::Flag(flag) => flag.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Time(time_ms) => Value::from(text::time(*time_ms)),
            Cell::Span(span_ms) => Value::from(*span_ms),
            Cell::Count(count) | Cell::Bytes(count) => Value::from(*count),
            Cell::Flag(flag) => Value::from(*flag),
        }
    }

    fn order(&self, other: &Cell) -> Ordering {
        match (self, other) {
            (Cell::Time(a), Cell::Time(b)) => a.cmp(b),
            (Cell::Span(a), Cell::Span(b)) => a.cmp(b),
            (Cell::Count(a), Cell::Count(b)) | (Cell::Bytes(a), Cell::Bytes(b)) => a.cmp(b),
            (Cell::Flag(a), Cell::Flag(b)) => a.cmp(b),
            (a, b) => a.text().cmp(&b.text()),
        }
    }
}

impl Table {
    /// Sorts the rows by columns, the first of them before the others, and at last by the first
    /// column of the table.
    pub(super) fn sort_by(&mut self, columns: &[usize]) {
        self.rows.sort_by(|a, b| {
            let orders = columns.iter().chain(&[0]).map(|it| a[*it].order(&b[*it]));
            orders.fold(Ordering::Equal, Ordering::then)
        });
    }

    /// The whole table.
    pub(super) fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.aligned(),
            Format::Tsv => self.separated('\t'),
            Format::Csv => self.separated(','),
            Format::Json => self.json(),
        }
    }

    fn aligned(&self) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let cells = rows.iter().map(|row| row[index].chars().count());
                cells.fold(column.header.chars().count(), usize::max)
            })
            .collect();
        let line = |cells: &[&str]| {
            let padded = cells.iter().zip(&widths).map(|(it, width)| format!("| {it:<width$} "));
            format!("{}|\n", padded.collect::<String>())
        };
        let headers: Vec<&str> = self.columns.iter().map(|it| it.header).collect();
        let rules: String = widths.iter().map(|it| format!("|{}", "-".repeat(it + 2))).collect();
        let mut out = line(&headers);
        out.push_str(&format!("{rules}|\n"));
        for row in &rows {
            out.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        out
    }

    fn separated(&self, separator: char) -> String {
        let quoted = |text: &str| match text.contains([separator, '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let line = |cells: Vec<String>| {
            let cells: Vec<String> = cells.iter().map(|it| quoted(it)).collect();
            format!("{}\n", cells.join(&separator.to_string()))
        };
        let mut out = line(self.columns.iter().map(|it| it.header.to_owned()).collect());
        for row in &self.rows {
            out.push_str(&line(row.iter().map(Cell::text).collect()));
        }
        out
    }

    fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let pairs = self.columns.iter().zip(row);
            let object = pairs.map(|(column, cell)| (column.key.to_owned(), cell.json()));
            Value::Object(object.collect::<Map<_, _>>())
        });
        let rows: Vec<String> = rows.map(|it| format!("\n{it}")).collect();
        match rows.is_empty() {
            true => "[]\n".to_owned(),
            false => format!("[{}\n]\n", rows.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column { header: "NAME", key: "name" }, Column { header: "#", key: "count" }];

    fn table() -> Table {
        let row = |name: &str, count| vec![Cell::Text(name.to_owned()), Cell::Count(count)];
        Table { columns: COLUMNS, rows: vec![row("b", 10_000), row("a, \"x\"", 9), row("a", 9)] }
    }

    #[test]
    fn all_formats_hold_the_same() {
        let table = table();
        assert_eq!(
            table.render(Format::Table),
            "| NAME   | #      |\n|--------|--------|\n| b      | 10,000 |\n| a, \"x\" | 9      |\n\
             | a      | 9      |\n"
        );
        assert_eq!(table.render(Format::Csv), "NAME,#\nb,\"10,000\"\n\"a, \"\"x\"\"\",9\na,9\n");
        assert_eq!(table.render(Format::Tsv), "NAME\t#\nb\t10,000\n\"a, \"\"x\"\"\"\t9\na\t9\n");
        let json: Value = serde_json::from_str(&table.render(Format::Json)).unwrap();
        assert_eq!(json[0]["count"], 10_000);
        assert_eq!(json[1]["name"], "a, \"x\"");
    }

    #[test]
    fn rows_are_sorted_by_value_and_not_by_text() {
        let mut table = table();
        table.sort_by(&[1]);
        let names: Vec<String> = table.rows.iter().map(|it| it[0].text()).collect();
        assert_eq!(names, ["a", "a, \"x\"", "b"]);
    }
}
