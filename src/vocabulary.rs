//! Vocabularies: enums of the words that travel over the control socket, which a newer lpm may add to.
//!
//! A word that is not known is kept as `Unknown`, with its spelling: it can be shown, and passed on, as the peer said it.
//! `#[serde(other)]` would read it, too, and forget it. Code matches the variants, each written out, so that a new word
//! makes the compiler list the places that must judge it; no place compares the spelling.

/// Makes such an enum: `vocabulary! { pub enum Name { Variant = "word", … } }`, each with its documentation.
macro_rules! vocabulary {
    (
        $(#[$of_all:meta])*
        pub enum $name:ident {
            $( $(#[$of_one:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$of_all])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$of_one])* $variant, )+
            /// A word of a newer peer.
            Unknown(String),
        }

        impl $name {
            /// The words that are known.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )+ ];

            /// The word, as it travels.
            pub fn as_str(&self) -> &str {
                match self {
                    $( $name::$variant => $word, )+
                    $name::Unknown(word) => word,
                }
            }

            fn known(word: &str) -> Option<$name> {
                match word {
                    $( $word => Some($name::$variant), )+
                    _ => None,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> $name {
                $name::known(&word).unwrap_or($name::Unknown(word))
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> $name {
                $name::known(word).unwrap_or_else(|| $name::Unknown(word.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a word")
                    }

                    fn visit_str<E>(self, word: &str) -> Result<$name, E> {
                        Ok($name::from(word))
                    }

                    fn visit_string<E>(self, word: String) -> Result<$name, E> {
                        Ok($name::from(word))
                    }
                }
                deserializer.deserialize_string(Word)
            }
        }
    };
}

pub(crate) use vocabulary;

#[cfg(test)]
mod tests {
    vocabulary! {
        /// Directions.
        pub enum Way {
            /// Up.
            Up = "up",
            /// Down.
            Down = "straight-down",
        }
    }

    #[test]
    fn words_travel_as_they_are() {
        for (text, way) in [("\"up\"", Way::Up), ("\"straight-down\"", Way::Down)] {
            assert_eq!(serde_json::from_str::<Way>(text).expect("a word"), way);
            assert_eq!(serde_json::to_string(&way).expect("plain data"), text);
        }
        assert_eq!(Way::ALL, [Way::Up, Way::Down]);
        assert_eq!(format!("{:<4}|", Way::Up), "up  |");
    }

    #[test]
    fn a_word_that_is_not_known_stays_what_it_is() {
        let way: Way = serde_json::from_str("\"side\\nways\"").expect("a word");
        assert_eq!(way, Way::Unknown("side\nways".to_owned()));
        assert_eq!(serde_json::from_value::<Way>("side\nways".into()).expect("a word"), way);
        assert_eq!(serde_json::to_string(&way).expect("plain data"), "\"side\\nways\"");
        assert!(serde_json::from_str::<Way>("5").is_err());
    }
}
