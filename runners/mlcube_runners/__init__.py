"""The runners that come with mlcube."""
