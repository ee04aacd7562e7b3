package image

type resolved struct{}
