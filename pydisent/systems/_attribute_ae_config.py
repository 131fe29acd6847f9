"""Settings of `attribute-ae`, including differences between the paper and its author's code."""

from dataclasses import dataclass

from pydisent.systems._config import check_choices, check_integers, check_numbers, check_types


@dataclass(frozen=True)
class AttributeAEConfig:
    """The paper's settings for CelebA (sec. 4.2, App. A.2).

    Squared errors are averaged over the batch and over pixels (from -1 to 1) or components of y or
    z: the paper prints sums, but its weights belong to the means in its author's code. So do the
    weights of the other losses, whose forms in the code differ from the printed ones (`variant`).

    Attributes
    ----------
    attributes : int
        k, the number of attributes in the data set: 40 for celeba, 32 for faces.
    z_channels : int
        The teacher's feature maps of z, which has d = 4 z_channels components; each student doubles
        them.
    base : int
        Feature maps of the first convolution.
    batch_size : int
        Images per update; 128 in the paper's text, 64 in its author's code.
    reconstruction_weight, prediction_weight, cross_covariance_weight : float
        λ1, λ2 and λ3 of Eq. 14.
    cycle_attributes_weight, cycle_z_weight : float
        λ4 and λ5, of Eqs. 12 and 13.
    cycle_steps, student_steps : int
        Updates of the teacher with the cycle losses, following those without, and of each student.
        Published: 100 and 200 epochs of 162,770 images; the last student's number is not given.
    students : int
        Number of students, each of which widens z.
    supervision : str
        The students' training signal besides the reconstruction: "jacobian", a teacher (Eq. 9);
        "jacobian-cycle", a teacher and the cycle losses (last row of Table 5); "cycle", all of the
        teacher's losses (the comparison in Table 2); "none", the same without the cycle losses.
    supervisor : str
        The teacher of a student: the "original" teacher, as in the author's code, or the "previous"
        model, which for the second student is the first. The paper does not say.
    y_weight, difference_weight : float
        λ_y and λ_diff of Eq. 9.
    student_cross_covariance_weight : float
        λ3 for students with Jacobian supervision. The paper sets λ2, λ4 and λ5 to zero for them
        (sec. 4.2.2), but also says that they learn only from Eqs. 8 and 9 (sec. 4.1).
    variant : str
        The form of the losses: "author_code", to which the published weights belong, or
        "published", Eqs. 10 to 13. In the code the cross-covariance is the Frobenius norm, not its
        square; hinge losses are summed over attributes, not averaged, with the sign of y as the
        cycle's target; and Eq. 13 is the unsquared norm of the whole batch, divided by B. In a
        fresh 32 px model, the published weights make the printed attribute loss 40 times weaker for
        the encoder than the code's, and the printed cross-covariance 37 times stronger.
    last_activation : bool
        Whether the encoder's last convolution is followed by a leaky ReLU, as published.
    cycle_optimizer : str
        Adam's moments for the cycle step: "shared" with the decoder's other step, as in the
        author's code, or its "own". With its own, the step is as long as the other one, regardless
        of the weights.
    gradient_clip : float or None
        Maximum gradient norm; 10 in the author's code.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's.
    """

    attributes: int = 40
    z_channels: int = 512
    base: int = 16
    batch_size: int = 128
    reconstruction_weight: float = 100.0
    prediction_weight: float = 0.1
    cross_covariance_weight: float = 0.1
    cycle_attributes_weight: float = 1e-4
    cycle_z_weight: float = 1e-5
    cycle_steps: int = 127_164
    student_steps: int = 254_328
    students: int = 2
    supervision: str = "jacobian"
    supervisor: str = "original"
    y_weight: float = 1.0
    difference_weight: float = 50.0
    student_cross_covariance_weight: float = 0.0
    variant: str = "author_code"
    last_activation: bool = True
    cycle_optimizer: str = "shared"
    gradient_clip: float | None = None
    learning_rate: float = 0.002
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8

    def __post_init__(self) -> None:
        check_types(self)
        check_integers(self, "attributes", "z_channels", "base", "student_steps")
        # Batch normalisation and pairing need two images.
        check_integers(self, "batch_size", at_least=2)
        check_integers(self, "cycle_steps", "students", at_least=0)
        weights = [name for name in self.__dataclass_fields__ if name.endswith("_weight")]
        check_numbers(self, *weights, at_least=0)
        check_numbers(self, "learning_rate", "adam_eps", "gradient_clip", above=0)
        check_numbers(self, "adam_beta1", "adam_beta2", at_least=0, below=1)
        check_choices(
            self,
            supervision=("jacobian", "jacobian-cycle", "cycle", "none"),
            supervisor=("original", "previous"),
            variant=("published", "author_code"),
            cycle_optimizer=("shared", "own"),
        )
