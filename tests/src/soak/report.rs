//! What happened in a soak, as it is printed at its end.

use std::collections::BTreeMap;
use std::fmt;

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds that reached a quiet point.
    pub rounds: u64,
    /// Faults that a request met.
    pub faults: u64,
    /// Faults by name.
    pub by_name: BTreeMap<&'static str, u64>,
    /// Reorganisations, of any depth.
    pub reorgs: u64,
    /// Those that reached a processed block.
    pub deep_reorgs: u64,
    /// SIGKILLs.
    pub kills: u64,
    /// Restarts by SIGTERM.
    pub stops: u64,
    /// State files that were damaged or made old.
    pub torn: u64,
    /// SIGHUPs.
    pub hangups: u64,
    /// Comparisons of one network with its fold.
    pub comparisons: u64,
    /// Series compared.
    pub series: u64,
    /// What was wrong, a line each.
    pub differences: Vec<String>,
    /// Resident memory at the quiet points, KiB.
    pub rss: Vec<u64>,
    /// Open files at the quiet points.
    pub files: Vec<u64>,
    /// Blocks of the chain.
    pub blocks: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rounds            {}", self.rounds)?;
        writeln!(f, "faults            {} of {} kinds", self.faults, self.by_name.len())?;
        writeln!(f, "reorganisations   {}, {} of processed blocks", self.reorgs, self.deep_reorgs)?;
        writeln!(f, "kill -9           {}", self.kills)?;
        writeln!(f, "SIGTERM           {}", self.stops)?;
        writeln!(f, "torn state files  {}", self.torn)?;
        writeln!(f, "SIGHUP            {}", self.hangups)?;
        writeln!(f, "blocks            {}", self.blocks)?;
        writeln!(f, "comparisons       {} of {} series", self.comparisons, self.series)?;
        writeln!(f, "differences       {}", self.differences.len())?;
        writeln!(f, "resident memory   {} KiB", spread(&self.rss))?;
        write!(f, "open files        {}", spread(&self.files))
    }
}

/// Least and most, and the medians of the quarters of the time: what leaks grows from one to the next.
fn spread(values: &[u64]) -> String {
    let (Some(least), Some(most)) = (values.iter().min(), values.iter().max()) else {
        return "none".to_owned();
    };
    let median = |quarter: &[u64]| {
        let mut sorted = quarter.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() / 2].to_string()
    };
    let quarters: Vec<String> = values.chunks(values.len().div_ceil(4)).map(median).collect();
    format!("{least} to {most}, medians of the quarters {}", quarters.join(", "))
}
