//! Text and environment to a valid [`Config`], or every problem at once.
