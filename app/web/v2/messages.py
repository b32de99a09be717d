"""The messages of the protocol over gRPC, described here: what protoc generates is bound to versions.

Names and numbers of fields are those of `open_inference_grpc.proto`. Nested messages and maps have other names
here, which never travel. Needs the extra `grpc`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12,
    "uint32": 13,
}  # fmt: skip  # as descriptor.proto numbers them
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3
# field: type, number; a type with * is repeated
_FIELDS: Mapping[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live: bool 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready: bool 1",
    "ModelReadyRequest": "name: string 1, version: string 2",
    "ModelReadyResponse": "ready: bool 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name: string 1, version: string 2, extensions: string* 3",
    "ModelMetadataRequest": "name: string 1, version: string 2",
    "TensorMetadata": "name: string 1, datatype: string 2, shape: int64* 3",
    "ModelMetadataResponse": "name: string 1, versions: string* 2, platform: string 3, "
    "inputs: TensorMetadata* 4, outputs: TensorMetadata* 5",
    "InferParameter": "bool_param: bool 1, int64_param: int64 2, string_param: string 3, "
    "double_param: double 4, uint64_param: uint64 5",
    "Parameter": "key: string 1, value: InferParameter 2",
    "InferTensorContents": "bool_contents: bool* 1, int_contents: int32* 2, int64_contents: int64* 3, "
    "uint_contents: uint32* 4, uint64_contents: uint64* 5, fp32_contents: float* 6, fp64_contents: double* 7, "
    "bytes_contents: bytes* 8",
    "InferInputTensor": "name: string 1, datatype: string 2, shape: int64* 3, parameters: Parameter* 4, "
    "contents: InferTensorContents 5",
    "InferRequestedOutputTensor": "name: string 1, parameters: Parameter* 2",
    "ModelInferRequest": "model_name: string 1, model_version: string 2, id: string 3, "
    "parameters: Parameter* 4, inputs: InferInputTensor* 5, outputs: InferRequestedOutputTensor* 6, "
    "raw_input_contents: bytes* 7",
    "InferOutputTensor": "name: string 1, datatype: string 2, shape: int64* 3, parameters: Parameter* 4, "
    "contents: InferTensorContents 5",
    "ModelInferResponse": "model_name: string 1, model_version: string 2, id: string 3, "
    "parameters: Parameter* 4, outputs: InferOutputTensor* 5, raw_output_contents: bytes* 6",
    "StatisticDuration": "count: uint64 1, ns: uint64 2",
    "InferStatistics": "success: StatisticDuration 1, fail: StatisticDuration 2, queue: StatisticDuration 3, "
    "compute_input: StatisticDuration 4, compute_infer: StatisticDuration 5, "
    "compute_output: StatisticDuration 6",
    "ModelStatistics": "name: string 1, version: string 2, last_inference: uint64 3, "
    "inference_count: uint64 4, execution_count: uint64 5, inference_stats: InferStatistics 6",
    "ModelStatisticsRequest": "name: string 1, version: string 2",
    "ModelStatisticsResponse": "model_stats: ModelStatistics* 1",
    "ModelStreamInferResponse": "error_message: string 1, infer_response: ModelInferResponse 2",
}
_ONE_OF = {"InferParameter": "parameter_choice"}


@cache
def messages() -> Mapping[str, Any]:
    """The class of each message, by its name."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="minist_inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name=_ONE_OF[name])
        for said in filter(None, fields.split(", ")):
            _add_field(message, said, name in _ONE_OF)
    pool = descriptor_pool.DescriptorPool()  # others may know messages of the same names
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _FIELDS
    }


def _add_field(message: Any, said: str, one_of: bool) -> None:
    name, kind, number = said.split()
    kind, repeated = kind.rstrip("*"), kind.endswith("*")
    field = message.field.add(name=name.rstrip(":"), number=int(number))
    field.label = _REPEATED if repeated else _OPTIONAL
    field.type = _SCALARS.get(kind, _MESSAGE)
    if kind not in _SCALARS:
        field.type_name = f".{PACKAGE}.{kind}"
    if one_of:
        field.oneof_index = 0
