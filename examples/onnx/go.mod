module peftsearch/examples/onnx

go 1.26.7

require (
	github.com/yalue/onnxruntime_go v1.27.0
	peftsearch v0.0.0
)

require (
	github.com/clipperhouse/uax29/v2 v2.7.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace peftsearch => ../..
