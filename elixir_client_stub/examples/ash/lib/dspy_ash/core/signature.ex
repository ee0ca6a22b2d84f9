defmodule DSPyAsh.Core.Signature do
  @moduledoc """
  Names, types and descriptions of what goes into a module and what comes out.

  A field is `%{"name" => …, "type" => …, "description" => …, "optional" => …, "default" => …}`.
  The docstring is the instruction that the LM reads.
  """

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.Core,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:read, :destroy]

    create :create do
      primary? true
      accept [:name, :docstring, :metadata]

      argument :inputs, {:array, :map}, allow_nil?: false
      argument :outputs, {:array, :map}, allow_nil?: false

      change set_attribute(:input_fields, arg(:inputs))
      change set_attribute(:output_fields, arg(:outputs))
      validate DSPyAsh.Core.Validations.SignatureFields
    end

    action :compile, :map do
      description "What DSPy reads in a signature's short form: %{inputs, outputs, instructions}."
      argument :signature_string, :string, allow_nil?: false

      run DSPyAsh.Core.Actions.CompileSignature
    end
  end

  multitenancy do
    strategy :attribute
    attribute :tenant
  end

  attributes do
    uuid_primary_key :id

    attribute :tenant, :string, allow_nil?: false
    attribute :name, :string, allow_nil?: false, public?: true
    attribute :docstring, :string, public?: true
    attribute :input_fields, {:array, :map}, allow_nil?: false, default: [], public?: true
    attribute :output_fields, {:array, :map}, allow_nil?: false, default: [], public?: true
    attribute :metadata, :map, default: %{}, public?: true

    timestamps()
  end

  @doc "The signature as `create_module` takes it."
  def to_wire(signature) do
    %{
      inputs: signature.input_fields,
      outputs: signature.output_fields,
      instructions: signature.docstring
    }
  end
end
