defmodule DSPyBridge.Chunk do
  @moduledoc """
  A piece of an output field, as the LM speaks it.

    * `field` - the output field; `"text"` for `DSPyBridge.stream_generate/3`
    * `text` - the piece
    * `index` - counts the pieces of one field of one LM answer from 0. A piece with the index 0
      begins its field anew: a retry, or another call of the same module
    * `call` - counts the LM calls of the request from 0
    * `module_id` - the module that speaks, `nil` for `stream_generate`
    * `predictor` - which predictor of that module

  The pieces of a text field, put together from its last index 0 on, are the field in the result.
  """

  @type t :: %__MODULE__{
          field: String.t(),
          text: String.t(),
          index: non_neg_integer(),
          call: non_neg_integer() | nil,
          module_id: String.t() | integer() | nil,
          predictor: String.t() | nil
        }

  defstruct [:field, :call, :module_id, :predictor, text: "", index: 0]

  @doc false
  @spec from_wire(map()) :: t()
  def from_wire(data) do
    %__MODULE__{
      field: data["field"],
      text: data["text"],
      index: data["index"] || 0,
      call: data["call"],
      module_id: data["module_id"],
      predictor: data["predictor"]
    }
  end
end
