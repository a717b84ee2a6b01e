"""Reviews: what people say of images, kept beside what the models say."""
