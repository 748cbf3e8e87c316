//! How settings that are no plain numbers stand in files.

/// A value as the text that names it: `"cuda:1"`.
pub mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads it.
    ///
    /// # Errors
    /// What the type's own reading says.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A number of bytes, written as a number and read as one or as text with a unit: `"6GiB"`.
pub mod optional_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::size;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bytes {
        Number(usize),
        Text(String),
    }

    /// Writes it.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<S: Serializer>(bytes: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is no number of bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
        match Option::<Bytes>::deserialize(deserializer)? {
            None => Ok(None),
            Some(Bytes::Number(bytes)) => Ok(Some(bytes)),
            Some(Bytes::Text(text)) => size::parse(&text).map(Some).map_err(D::Error::custom),
        }
    }
}

/// A duration, written in seconds and read in seconds or as text with a unit: `"45m"`.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::size;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Seconds(f64),
        Text(String),
    }

    /// Writes it.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = match Option::<Time>::deserialize(deserializer)? {
            None => return Ok(None),
            Some(Time::Seconds(seconds)) => seconds.to_string(),
            Some(Time::Text(text)) => text,
        };
        size::duration(&text).map(Some).map_err(D::Error::custom)
    }
}
