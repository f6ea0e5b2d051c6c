//! The switches of a scope: what a request uses beyond its model.

/// Something a request can use that a scope can switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// The answer comes as a stream.
    Streaming,
    /// Tools that the client executes.
    Tools,
    /// Pictures in the input.
    Images,
    /// Sound in the input or the output.
    Audio,
    /// Files or documents in the input.
    Files,
    /// URLs that the provider would fetch.
    RemoteUrls,
    /// The provider keeps the answer.
    Store,
    /// The provider may drop parts of the input.
    Truncation,
}

impl Feature {
    /// Every feature, in the order in which refusals are reported.
    pub const ALL: [Self; 8] = [
        Self::Streaming,
        Self::Tools,
        Self::Images,
        Self::Audio,
        Self::Files,
        Self::RemoteUrls,
        Self::Store,
        Self::Truncation,
    ];

    /// The name of the switch in a scope.
    pub fn switch(self) -> &'static str {
        match self {
            Self::Streaming => "allow_streaming",
            Self::Tools => "allow_tools",
            Self::Images => "allow_images",
            Self::Audio => "allow_audio",
            Self::Files => "allow_files",
            Self::RemoteUrls => "allow_remote_urls",
            Self::Store => "allow_store",
            Self::Truncation => "allow_truncation",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet(u8);

impl FeatureSet {
    /// The set with the feature in it.
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0 | feature.bit())
    }

    /// Puts the feature in.
    pub fn insert(&mut self, feature: Feature) {
        self.0 |= feature.bit();
    }

    /// Takes the feature out.
    pub fn remove(&mut self, feature: Feature) {
        self.0 &= !feature.bit();
    }

    /// Whether the feature is in the set.
    pub fn contains(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The features in the set, in the order of [`Feature::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.contains(*feature))
    }
}

impl FromIterator<Feature> for FeatureSet {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        features.into_iter().fold(Self::default(), Self::with)
    }
}
