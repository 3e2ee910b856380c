//! The chapters of the pedestrians' story, in order.

/// A part of the stream, told in a line.
pub(super) struct Chapter {
    /// First day.
    pub(super) from: &'static str,
    /// First day after it.
    pub(super) to: &'static str,
    /// The counter that it is about; none for all of them.
    pub(super) site: Option<&'static str>,
    pub(super) title: &'static str,
}

/// Alert levels 4 and 3, when people had to stay at home, are those of
/// <https://covid19.govt.nz/about-our-covid-19-response/history-of-the-covid-19-alert-system/>.
pub(super) const CHAPTERS: &[Chapter] = &[
    Chapter {
        from: "2019-09-23",
        to: "2020-03-26",
        site: None,
        title: "ordinary months",
    },
    Chapter {
        from: "2020-03-26",
        to: "2020-05-14",
        site: None,
        title: "first lockdown: the streets are empty",
    },
    Chapter {
        from: "2020-05-14",
        to: "2021-07-12",
        site: None,
        title: "people come back",
    },
    Chapter {
        from: "2021-07-12",
        to: "2021-08-11",
        site: Some("Courthouse Lane"),
        title: "Courthouse Lane's counter fails: it counts nobody",
    },
    Chapter {
        from: "2021-08-18",
        to: "2021-12-03",
        site: None,
        title: "second lockdown",
    },
    Chapter {
        from: "2021-12-03",
        to: "2022-08-31",
        site: None,
        title: "people come back again",
    },
    Chapter {
        from: "2022-08-31",
        to: "2023-04-01",
        site: Some("Quay Street"),
        title: "Quay Street's counter begins: a place never seen",
    },
];
